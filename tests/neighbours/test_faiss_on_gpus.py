"""What FAISS refuses on a GPU is refused by name, before an actor starts."""

from dataclasses import replace
from pathlib import Path

import pytest

from postmean.base.errors import ConfigError
from postmean.contract.settings import EstimatorSettings
from postmean.neighbours.faiss_search import FaissSpec
from postmean.runs.job import check_index
from tests.support.settings import manifest
from tests.support.stores import digits_store


@pytest.mark.parametrize(
    ("index", "k", "nprobe", "message"),
    [
        ("sq8", 10, 1, "index sq8: FAISS has it on a CPU alone: use ivf<lists>-sq8"),
        ("ivf64-sq8", 4096, 8, "--k 4096: FAISS on a GPU takes at most 2048"),
        ("ivf4096-flat", 10, 3000, "--nprobe 3000: FAISS on a GPU takes at most 2048"),
    ],
)
def test_what_a_gpu_refuses(index: str, k: int, nprobe: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FaissSpec(index).check_on_gpu(k, nprobe)


@pytest.mark.parametrize("index", ["flat", "ivf64-flat", "ivf64-sq8"])
def test_what_a_gpu_takes(index: str) -> None:
    FaissSpec(index).check_on_gpu(2048, 2048)
    FaissSpec("flat").check_on_gpu(10, 5000)  # searches no partitions


def test_a_job_is_refused_before_its_index_is_looked_for(tmp_path: Path) -> None:
    store = digits_store(tmp_path / "store", 50)
    on_gpu = replace(
        manifest(), device="cuda", estimator=EstimatorSettings(name="knn-snis", index="sq8", certificate=False)
    )
    with pytest.raises(ConfigError, match="index sq8: FAISS has it on a CPU alone"):
        check_index(on_gpu, store)
