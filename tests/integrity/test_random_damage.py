"""One property for every kind of file: after random damage, users get what they got before, or an error of one line.

Never a traceback, a hang, a gigabyte, another target or another model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from postmean.base.errors import PostmeanError
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.training.metrics import MetricsLog
from postmean.training.resume import check_same_run, trainer_name
from tests.integrity.conftest import CELL, TRAINING, cells_of, grids_of
from tests.support import readings
from tests.support.bounds import bounded
from tests.support.mutations import change_and_seal, damage

SECONDS, BYTES = 60, 1 << 30


def same(before: Any, after: Any) -> bool:
    return before == after


def no_more(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    return all(a <= b for a, b in zip(after, before, strict=True))


def anything(before: Any, after: Any) -> bool:
    return True


def same_or_none(before: Any, after: Any) -> bool:
    return after is None or before == after


def cell(root: Path) -> Any:
    """A number of a report, which is computed again where it is None."""
    return cells_of(root).read(CELL.method, CELL.sigma)


def grid(root: Path) -> Any:
    """An image of a report."""
    grids = grids_of(root).read()
    return None if grids is None else {name: values.tobytes() for name, values in grids.items()}


def logged(root: Path) -> None:
    """A trainer goes on with its metrics."""
    MetricsLog(root / "model/metrics.jsonl", 1)


def resumable(root: Path) -> str:
    """Whether training goes on, and under which name."""
    manifest = RunFolder(open_storage(root / "tar")).read_manifest()
    check_same_run(root / "model", TRAINING, manifest)
    return trainer_name(root / "model")


@dataclass(frozen=True)
class Kind:
    """Files, what is read of them, and what may come of it."""

    files: str
    """Glob in the world."""
    read: Callable[[Path], Any]
    allows: Callable[[Any, Any], bool] = same


TAR, ZARR = partial(readings.targets, run="tar"), partial(readings.targets, run="zarr")
KINDS = {
    "header": Kind("store/header.json", TAR),
    "images": Kind("store/images.npy", TAR),
    "labels": Kind("store/labels.npy", TAR),
    "block hashes": Kind("store/block_hashes.npy", TAR),
    "self-join": Kind("store/index/self-join.*", readings.planned),
    "index": Kind("store/index/ivf8-sq8.*", readings.neighbours),
    "manifest": Kind("tar/manifest.json", TAR),
    "plan": Kind("tar/plan.parquet", TAR),
    "certificate": Kind("tar/certified_sigma.npy", TAR),
    "resumed manifest, plan, certificate": Kind("tar/[mpc]*.[jpn]*", readings.resumed),
    "commit": Kind("tar/commits/*.json", TAR),
    "tar": Kind("tar/shards/*.tar", TAR),
    "zarr": Kind("zarr/targets.zarr/*/c.*", ZARR),
    "checkpoint": Kind("model/checkpoints/00000002/**/*.*", readings.weights),
    "positions": Kind("followed/trainers/*.json", readings.lost, no_more),
    "deleted": Kind("followed/deleted.json", readings.lost),
    "lease": Kind("followed/leases/*.json", readings.reported, anything),
    "status": Kind("followed/status.json", readings.reported, anything),
    "config": Kind("model/config.json", resumable, anything),
    "metrics": Kind("model/metrics.jsonl", logged),
    "report's numbers": Kind("report/parts/exact-*.json", cell, same_or_none),
    "report's images": Kind("report/parts/grids-*", grid, same_or_none),
}
SEALED = {
    "header": Kind("store/header.json", TAR, anything),
    "manifest": Kind("tar/manifest.json", TAR, anything),
    "positions": Kind("followed/trainers/*.json", readings.lost, anything),
    "deleted": Kind("followed/deleted.json", readings.lost, anything),
    "self-join": Kind("store/index/self-join.json", readings.planned, anything),
    "index": Kind("store/index/ivf8-sq8.json", readings.neighbours, anything),
    "checkpoint": Kind("model/checkpoints/00000002/files.json", readings.weights, anything),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_as_it_was_or_refused_in_one_line(world: Path, kind: str) -> None:
    check(world, KINDS[kind], kind, range(6 if kind == "zarr" else 12), damage)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_as_it_was_or_refused_in_one_line_at_length(world: Path, kind: str) -> None:
    check(world, KINDS[kind], kind, range(12, 500), damage)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEALED)
def test_a_file_that_someone_changed_and_sealed_again_raises_nothing_but_one_line(world: Path, kind: str) -> None:
    check(world, SEALED[kind], kind, range(500), lambda name, data, random: change_and_seal(data, random))


def check(world: Path, kind: Kind, name: str, seeds: range, change: Callable[[str, bytes, Random], bytes]) -> None:
    """Change a file of the kind for every seed, and read."""
    files = sorted(path for path in world.glob(kind.files) if path.is_file())
    before = kind.read(world)
    for seed in seeds:
        random = Random(f"{name} {seed}")
        file = random.choice(files)
        data = file.read_bytes()
        file.write_bytes(change(file.name, data, random))
        where = f"{name}, seed {seed}: {file.relative_to(world)}"
        try:
            with bounded(SECONDS, BYTES):
                after = kind.read(world)
        except PostmeanError as error:
            assert "\n" not in str(error) and len(str(error)) < 5000, where
        except BaseException as error:
            raise AssertionError(where) from error
        else:
            assert kind.allows(before, after), where
        finally:
            file.write_bytes(data)
    assert kind.read(world) == before
