"""Commands that read files, on a world with one damaged file: each ends well, or with one line and a code."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from postmean.cli.main import run as postmean
from tests.integrity.conftest import GENERATE
from tests.support import readings
from tests.support.bounds import bounded
from tests.support.mutations import damage
from tests.support.runs import assert_one_line

STORE = ["store/*.*", "store/index/self-join.*"]
RUN = ["manifest.json", "plan.parquet", "certified_sigma.npy"]
Reads = tuple[Callable[[Path], list[str]], list[str]]
COMMANDS: dict[str, Reads] = {
    "verify tar": (
        lambda root: ["verify", f"{root}/tar", f"--store={root}/store", "--records=8"],
        [*STORE[:1], "tar/shards/*", "tar/commits/*", *(f"tar/{name}" for name in RUN)],
    ),
    "verify zarr": (
        lambda root: ["verify", f"{root}/zarr", f"--store={root}/store", "--records=8"],
        ["zarr/targets.zarr/**/*", "zarr/commits/*", *(f"zarr/{name}" for name in RUN)],
    ),
    "status": (lambda root: ["status", f"{root}/followed"], ["followed/*.*", "followed/trainers/*"]),
    "generate": (
        lambda root: ["generate", *GENERATE, f"--store={root}/store", f"--out={root}/tar"],
        [*STORE, *(f"tar/{name}" for name in RUN), "tar/*.json"],
    ),
    "index": (lambda root: ["index", f"{root}/store"], STORE),
    "sample": (
        lambda root: ["sample", f"{root}/model", f"--out={root}/samples", "--count=2", "--steps=2", "--device=cpu"],
        ["model/checkpoints/00000002/**/*.*"],
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_on_a_damaged_file_ends_well_or_with_one_line(
    world: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check(world, name, range(3), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_on_a_damaged_file_ends_well_or_with_one_line_at_length(
    world: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check(world, name, range(3, 200), capsys)


def check(world: Path, name: str, seeds: range, capsys: pytest.CaptureFixture[str]) -> None:
    """Damage a file that the command reads, for every seed, and run it."""
    arguments, globs = COMMANDS[name]
    command, *rest = arguments(world)
    files = sorted({path for glob in globs for path in world.glob(glob) if path.is_file()})
    assert postmean(command, rest) == 0, "undamaged"
    before = {run: readings.targets(world, run) for run in ("tar", "zarr")}
    for seed in seeds:
        random = Random(f"{name} {seed}")
        file = random.choice(files)
        data, beside = file.read_bytes(), file.with_suffix(".json")
        card = beside.read_bytes() if beside.is_file() else None  # `index` mends a damaged index
        file.write_bytes(damage(file.name, data, random))
        where = f"{name}, seed {seed}: {file.relative_to(world)}"
        capsys.readouterr()
        try:
            with bounded(60, 1 << 30):
                code = postmean(command, rest)
            if code:
                assert_one_line(capsys.readouterr().err, f"postmean {command}: ")
            elif command == "verify":
                assert readings.targets(world, name.split()[1]) == before[name.split()[1]]
        except BaseException as error:
            raise AssertionError(where) from error
        finally:
            file.write_bytes(data)
            if card is not None and beside != file:
                beside.write_bytes(card)
    assert postmean(command, rest) == 0, "mended"
