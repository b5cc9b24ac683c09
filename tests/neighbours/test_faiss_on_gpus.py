"""What FAISS refuses on a GPU is refused by name, before anything is built or started."""

from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch

from postmean.base.errors import ConfigError
from postmean.cli.main import run
from postmean.contract.image_blocks import ImageBlocks
from postmean.contract.image_store import ImageStore, StoreHeader
from postmean.contract.settings import EstimatorSettings
from postmean.engine.population import Population
from postmean.neighbours import faiss_spec
from postmean.neighbours.faiss_gpu import check_here, check_search, to_gpu
from postmean.neighbours.faiss_search import build, index_path
from postmean.neighbours.faiss_spec import FaissSpec
from postmean.runs.job import check_index
from tests.support.cuda_stand_in import cuda_stand_in
from tests.support.faiss_gpu_stand_in import faiss_gpu_stand_in
from tests.support.runs import assert_one_line
from tests.support.settings import manifest
from tests.support.stores import digits_store

BUILDS = pytest.mark.parametrize("cuvs", [False, True], ids=["faiss-gpu", "faiss-gpu-cuvs"])


@BUILDS
@pytest.mark.parametrize(
    ("index", "k", "nprobe"), [("flat", 4096, 1), ("ivf64-flat", 4096, 8), ("ivf4096-flat", 9, 3000)]
)
def test_more_than_2048_neighbours_or_partitions_take_cuvs(
    monkeypatch: pytest.MonkeyPatch, cuvs: bool, index: str, k: int, nprobe: int
) -> None:
    faiss_gpu_stand_in(monkeypatch, cuvs)
    if cuvs:
        return check_search(FaissSpec(index), k, nprobe)
    with pytest.raises(ConfigError, match=r"(--k 4096|--nprobe 3000): FAISS on a GPU takes at most 2048: lower it or"):
        check_search(FaissSpec(index), k, nprobe)


@BUILDS
def test_inverted_files_of_bytes_are_searched_by_faiss_itself(monkeypatch: pytest.MonkeyPatch, cuvs: bool) -> None:
    faiss_gpu_stand_in(monkeypatch, cuvs)
    check_search(FaissSpec("ivf4096-sq8"), 2048, 2048)
    check_search(FaissSpec("flat"), 10, 5000)  # searches no partitions
    with pytest.raises(ConfigError, match="--k 4096: FAISS on a GPU takes at most 2048"):
        check_search(FaissSpec("ivf64-sq8"), 4096, 8)


@BUILDS
def test_each_kind_is_copied_or_refused_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cuvs: bool) -> None:
    """The copy fails for just the kinds that the check refuses."""
    store = digits_store(tmp_path / "store", 200)
    faiss_gpu_stand_in(monkeypatch, cuvs)
    with cuda_stand_in(monkeypatch):
        population = Population(store, False, device="cuda")
        for name in ("flat", "sq8", "ivf4-flat", "ivf4-sq8"):
            index = faiss.read_index(str(build(store, FaissSpec(name), False)))
            if name == "sq8":
                with pytest.raises(ConfigError, match="index sq8: FAISS has it on a CPU alone: use ivf<lists>-sq8"):
                    check_here(FaissSpec(name), population)
                with pytest.raises(RuntimeError, match="not implemented on GPU"):
                    to_gpu(index, FaissSpec(name))
            else:
                check_here(FaissSpec(name), population)
                to_gpu(index, FaissSpec(name)).search(torch.zeros(3, 64).numpy(), 5)


@pytest.mark.parametrize(
    ("index", "gigabytes", "instead"),
    [
        ("flat", 85, "ivf4528-sq8, --index exact"),
        ("flat", 150, None),
        ("ivf4527-flat", 85, "ivf4527-sq8, --index exact"),
        ("ivf4527-sq8", 85, None),
        ("ivf4527-sq8", 25, "--index exact"),
    ],
)
def test_an_index_of_imagenet_needs_room_beside_the_pixels(
    monkeypatch: pytest.MonkeyPatch, index: str, gigabytes: int, instead: str | None
) -> None:
    shape = (1_281_167, 3, 64, 64)
    header = StoreHeader(schema_version=2, shape=shape, class_names=None, source={}, fingerprint="")
    store = ImageStore(Path("none"), header, ImageBlocks(np.broadcast_to(np.uint8(0), shape)), None)
    faiss_gpu_stand_in(monkeypatch, False)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, gigabytes * 10**9))
    population = Population(store, False, device="cuda")
    if instead is None:
        return check_here(FaissSpec(index), population)
    with pytest.raises(ConfigError, match=rf"{index}: .* on a GPU of {gigabytes}.0 GB: use {instead}, which needs"):
        check_here(FaissSpec(index), population)


def test_a_job_is_refused_before_its_index_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = digits_store(tmp_path / "store", 50)

    def job(**settings: object) -> None:
        estimator = replace(EstimatorSettings(name="knn-snis", certificate=False), **settings)
        check_index(replace(manifest(), device="cuda", estimator=estimator), store)

    with pytest.raises(ConfigError, match="index sq8: FAISS has it on a CPU alone"):
        job(index="sq8")
    with pytest.raises(ConfigError, match="--k 5000: FAISS on a GPU"):
        job(index="flat", k=5000)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(
        ConfigError, match=r"pip uninstall faiss-cpu, then pip install 'postmean\[faiss-gpu\]'.*CUDA 12"
    ):
        job(index="flat")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(ConfigError, match=r"'postmean\[faiss-gpu-cuvs\]', which goes with this torch \(CUDA 13\)"):
        job(index="flat")


def test_the_index_command_refuses_before_the_self_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    store = digits_store(tmp_path / "store", 50)
    assert run("index", [str(store.path), "--index=sq8", "--device=cuda"]) == 2
    assert_one_line(capsys.readouterr().err, "--device cuda: torch finds no GPU on this machine")
    faiss_gpu_stand_in(monkeypatch, True)
    with cuda_stand_in(monkeypatch):
        assert run("index", [str(store.path), "--index=sq8"]) == 2
    assert_one_line(capsys.readouterr().err, "index sq8: FAISS has it on a CPU alone")
    assert not (store.path / "index").exists()
    assert run("index", [str(store.path), "--index=sq8", "--device=cpu"]) == 0
    assert index_path(store, FaissSpec("sq8"), False).is_file()


def test_two_packages_of_one_module_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_spec, "version", lambda name: "1.15.1")
    with pytest.raises(ConfigError, match=r"faiss-cpu and faiss-gpu and faiss-gpu-cuvs are .* pip uninstall"):
        faiss_spec.load_faiss()
