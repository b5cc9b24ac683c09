"""One tiny store, and one run of it made without Ray, with which runs of the fleet are compared."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from postmean.contract.image_store import ImageStore
from postmean.contract.settings import ShardFormat
from postmean.runs.config import GenerateConfig
from tests.support.made_once import made_once
from tests.support.runs import files_of, indexed_store, make_by_hand
from tests.support.settings import generate_config

FORMATS: tuple[ShardFormat, ...] = ("webdataset", "zarr")
TUPLES, RECORDS_PER_SHARD, SEED = 12_000, 128, 5
"""Some 55 shards of 0.1 s each: enough that a kill after the first few hits the middle of the run."""


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return ImageStore.open(made_once(tmp_path_factory, "fleet-store", lambda path: indexed_store(path, 300)))


@pytest.fixture(scope="session")
def job(store: ImageStore) -> list[str]:
    """Arguments of `postmean generate`, without --out and --format."""
    flags = {
        "store": store.path,
        "tuples": TUPLES,
        "seed": SEED,
        "records-per-shard": RECORDS_PER_SHARD,
        "estimator": "knn-stratified",
        "k": 64,
        "m": 64,
        "actors": 2,
    }
    return ["generate", "edm-digits", *(f"--{name}={value}" for name, value in flags.items())]


@pytest.fixture(scope="session")
def expected(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Files of the job's run for each format, made by one replica in this process."""

    def make(folder: Path) -> None:
        make_by_hand(*(config(store.path, folder / format, format) for format in FORMATS))

    folder = made_once(tmp_path_factory, "fleet-runs", make)
    return {format: files_of(folder / format) for format in FORMATS}


@pytest.fixture
def ray_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray's folders go, with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def config(store: Path, out: Path, format: ShardFormat) -> GenerateConfig:
    """The settings of `job`."""
    return generate_config(
        store,
        out,
        tuples=TUPLES,
        seed=SEED,
        records_per_shard=RECORDS_PER_SHARD,
        estimator="knn-stratified",
        k=64,
        m=64,
        format=format,
    )
