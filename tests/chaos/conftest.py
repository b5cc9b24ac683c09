"""A store, its run without faults, and an object store that may be killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from postmean.contract.image_store import ImageStore
from tests.chaos.disturbed_run import RECORDS_PER_SHARD, TUPLES
from tests.support.runs import indexed_store, make_by_hand
from tests.support.seaweed import SeaweedServer, set_environment
from tests.support.settings import generate_config


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return indexed_store(tmp_path_factory.mktemp("chaos") / "store", 300)


@pytest.fixture(scope="session")
def undisturbed(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, made by one replica in this process."""
    out = tmp_path_factory.mktemp("undisturbed")
    settings = {"seed": 3, "records_per_shard": RECORDS_PER_SHARD, "estimator": "knn-stratified", "k": 64, "m": 64}
    make_by_hand(generate_config(store.path, out, tuples=TUPLES, **settings))
    return out


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedServer]:
    (tmp_path / "seaweed").mkdir()
    server = SeaweedServer(tmp_path / "seaweed")
    set_environment(monkeypatch, server.endpoint)
    server.start()
    yield server
    server.end()
