"""An actor on a GPU, or on the stand-in for one: it makes the records of the CPU, and names what its GPU lacks."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from postmean.base.device import machine_kind
from postmean.base.errors import ConfigError
from postmean.contract.image_store import ImageStore
from postmean.engine import dense_means, pixels, products, self_test
from postmean.engine.process_setup import threads
from postmean.fleet.actor import EstimatorActor
from postmean.neighbours.self_join import self_join
from postmean.runs.job import prepare
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from tests.support.gpu_faults import OUT_OF_MEMORY, REFUSED
from tests.support.settings import generate_config
from tests.support.stores import digits_store


@pytest.fixture(autouse=True)
def its_own_process() -> Iterator[None]:
    """What an actor sets in its process, threads and denormal numbers, ends with the test."""
    with threads(torch.get_num_threads()):
        yield


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    store = digits_store(tmp_path / "store", 300)
    self_join(store, False, False).save(store)
    return store


def run_of(store: ImageStore, out: Path, device: str) -> RunFolder:
    """A run of one shard, begun."""
    config = generate_config(store, out, tuples=200, device=device)
    run = RunFolder(open_storage(config.out))
    prepare(config, run).begin(run)
    return run


def test_a_shard_has_the_means_of_the_cpu(store: ImageStore, tmp_path: Path) -> None:
    means = []
    for device in ("cpu", "cuda"):
        run = run_of(store, tmp_path / device, device)
        actor = EstimatorActor(run.storage.url, str(store.path))
        actor.load()
        assert actor.make(0)["records"] == run.read_plan()[0].records
        means.append(run.read_shard(0).mean.decode(store))
        assert run.read_commit(0).made_on == machine_kind(device)
    assert np.square(means[1] - means[0]).mean() <= 1e-6


def refuse(error: Exception) -> Callable[..., None]:
    """A function that raises the error, whatever its arguments."""

    def raises(*arguments: object) -> None:
        raise error

    return raises


def test_what_a_gpu_lacks_is_named_when_the_actor_loads(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run_of(store, tmp_path / "run", "cuda").storage.url

    def load(message: str) -> None:
        self_test.check_products.cache_clear()
        with pytest.raises(ConfigError, match=message) as error:
            EstimatorActor(out, str(store.path)).load()
        assert "\n" not in str(error.value)

    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 80 << 30))
        load(r"1\.1 of 85\.9 GB are free, the engine needs .* GB even without the images: stop what else uses this GPU")
    with monkeypatch.context() as patch:
        patch.setattr(pixels, "on_gpu", refuse(torch.OutOfMemoryError(OUT_OF_MEMORY)))
        load(r"23\.57 GiB: stop what else uses this GPU, pass --shards-at-a-time 1, or take a GPU with more memory$")
    with monkeypatch.context() as patch:
        patch.setattr(self_test, "float16_product", refuse(RuntimeError(REFUSED)))
        load(r"the self-test of the matrix products failed \(CUDA error: CUBLAS_STATUS_NOT_SUPPORTED .* --device cpu$")
    self_test.check_products.cache_clear()


def test_a_product_that_is_refused_in_a_shard_names_gpu_and_torch(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = EstimatorActor(run_of(store, tmp_path / "run", "cuda").storage.url, str(store.path))
    actor.load()
    monkeypatch.setattr(products, "float16_product", refuse(RuntimeError(REFUSED)))
    monkeypatch.setattr(dense_means, "float16_product", refuse(RuntimeError(REFUSED)))
    with pytest.raises(
        ConfigError, match=r", torch 2.*NOT_SUPPORTED.*: install a torch that supports this GPU, or run"
    ):
        actor.make(0)
