"""A small world with one file of every kind, made without Ray: store, indexes, runs, trainer."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from postmean.base.json_files import to_json
from postmean.cli.main import run as postmean
from postmean.contract.image_store import ImageStore
from postmean.report.cells import Cell, CellStore
from postmean.report.grids import GridStore
from postmean.report.settings import Method, ReportSettings
from postmean.runs.lease import Holder
from postmean.runs.status import STATUS, DriverStatus
from postmean.shards.positions import Position, write_position
from postmean.shards.retention import delete_shards
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.training.presets import PRESETS
from tests.support.runs import make_by_hand
from tests.support.settings import generate_config
from tests.support.small_training import train
from tests.support.stores import digits

IMAGES, BATCH = 120, 50
CELL = Cell(
    method=Method(estimator="exact"),
    sigma=2.0,
    mse=1e-9,
    mse_se=1e-10,
    bias2=1e-9,
    bias2_se=0.0,
    variance=0.0,
    variance_se=0.0,
    posterior_variance=0.3,
)
GENERATE = ["edm-digits", "--tuples=600", "--records-per-shard=64", "--estimator=exact", "--max-support=8"]
TRAINING = replace(
    PRESETS["edm-digits"],
    batch_size=BATCH,
    steps=2,
    checkpoint_every=1,
    network=replace(PRESETS["edm-digits"].network, channels=16, layers_per_block=1),
)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world; never written to."""
    root = tmp_path_factory.mktemp("whole")
    for number, (image, label) in enumerate(zip(*(each[:IMAGES] for each in digits()), strict=True)):
        file = root / "photos" / f"{label}" / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    store = import_store(root)
    make_runs(root, store)
    make_followed(root)
    train(TRAINING, root / "tar", store.path, root / "model")
    cells_of(root).write(CELL)
    grids_of(root).write({"exact": np.random.default_rng(0).random((4, 3, 1, 8, 8), np.float32)})
    return root


@pytest.fixture(scope="session")
def world(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose files a test may damage, if it mends them afterwards."""
    root = tmp_path_factory.mktemp("world")
    shutil.copytree(whole, root, dirs_exist_ok=True)
    return root


def cells_of(root: Path) -> CellStore:
    """Where a report keeps its numbers."""
    return CellStore(root / "report", "fingerprint", ReportSettings(points=8, repeats=2, sigmas=(CELL.sigma,)), None)


def grids_of(root: Path) -> GridStore:
    """Where a report keeps its images."""
    return GridStore(root / "report", {"name": "grids"})


def import_store(root: Path) -> ImageStore:
    """Import the photos and index them, as a user does."""
    assert postmean("import", [str(root / "photos"), str(root / "store")]) == 0
    assert postmean("index", [str(root / "store"), "--index=ivf8-sq8"]) == 0
    return ImageStore.open(root / "store")


def make_runs(root: Path, store: ImageStore) -> None:
    """The same run in both formats."""
    settings = dict(tuples=600, records_per_shard=64, estimator="exact", max_support=8)  # those of GENERATE
    tar = generate_config(store, root / "tar", **settings)
    make_by_hand(tar, generate_config(store, root / "zarr", **settings, format="zarr"))


def make_followed(root: Path) -> None:
    """A run whose trainers are far apart, with its first shards deleted, and a driver that was killed."""
    shutil.copytree(root / "tar", root / "followed")
    run = RunFolder(open_storage(root / "followed"))
    for name, resume in (("a", 400), ("b", 300)):
        position = Position(next_tuple=resume + 100, batch_size=BATCH, resume_tuple=resume, finished=False)
        write_position(run.storage, name, position)
    delete_shards(run, 0, 1)
    dead = replace(Holder.this_process(), process_started=1)
    run.storage.put("leases/000007.json", to_json(dead))
    status = DriverStatus(time=1e9, shards=2, bytes=1000, records_per_second=2.5, seconds_left=None, retries=1)
    run.storage.put(STATUS, to_json(status))
