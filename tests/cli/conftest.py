"""A tiny store and finished runs of it, made without Ray, on which every command is tried."""

import shutil
from pathlib import Path

import pytest

from postmean.contract.image_store import ImageStore
from tests.support.runs import indexed_store, make_by_hand
from tests.support.settings import generate_config


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return indexed_store(tmp_path_factory.mktemp("cli") / "store", 150)


@pytest.fixture(scope="session")
def finished(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `settings`; never written to."""
    out = tmp_path_factory.mktemp("cli") / "run"
    make_by_hand(generate_config(store, out, tuples=600, records_per_shard=64, estimator="exact"))
    return out


@pytest.fixture(scope="session")
def settings(store: ImageStore) -> list[str]:
    """The arguments that made `finished`, without --out."""
    return ["edm-digits", f"--store={store.path}", "--tuples=600", "--records-per-shard=64", "--estimator=exact"]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of `finished` that tests may damage."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"
