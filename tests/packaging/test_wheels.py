"""Wheel and sdist go into a clean environment of each supported Python, and the commands work there.

`make wheels` runs this. A Python that uv does not find on this machine is skipped: put its folder on PATH.
"""

import os
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.packaging.conftest import ROOT, UV

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]


@pytest.fixture(scope="module", params=PYTHONS)
def python(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a clean environment with the wheel and what generation and training need."""
    found = subprocess.run(
        [UV, "python", "find", "--no-python-downloads", request.param], capture_output=True, text=True
    )
    if found.returncode:
        pytest.skip(f"no Python {request.param} on this machine")
    folder = tmp_path_factory.mktemp("clean") / "venv"
    uv("venv", "--quiet", "--python", found.stdout.strip(), folder)
    uv(
        "pip",
        "install",
        "--quiet",
        "--python",
        folder / "bin" / "python",
        f"postmean[generate,train] @ {wheel.as_uri()}",
    )
    return folder / "bin" / "python"


def uv(*arguments: object) -> str:
    done = subprocess.run([UV, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def postmean(python: Path, folder: Path, *arguments: str) -> str:
    """What the installed command prints."""
    done = subprocess.run(
        [python.with_name("postmean"), *arguments], cwd=folder, capture_output=True, text=True, env=clean_environment()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Without PYTHONPATH: the installed package is meant, not this tree."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def make_photos(folder: Path) -> None:
    """Forty random 8x8 images of two classes in `photos`."""
    rng = np.random.default_rng(0)
    for number in range(40):
        path = folder / "photos" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)


def test_the_wheel_works(python: Path, tmp_path: Path) -> None:
    """From pictures to samples with the installed commands, and the targets in the installed stream."""
    folder = tmp_path
    assert postmean(python, folder, "--version").split() == ["postmean", PROJECT["version"]]
    assert "nothing to mend" in postmean(python, folder, "doctor")
    make_photos(folder)
    shared = ["--store", "s"]
    postmean(python, folder, "import", "photos", "s")
    postmean(python, folder, "index", "s")
    postmean(python, folder, "generate", "edm-digits", *shared, "--tuples", "1024", "--out", "t", "--actors", "1")
    assert "all is well" in postmean(python, folder, "verify", "t", *shared)
    small = ["--batch-size", "64", "--steps", "2", "--network.channels", "16", "--network.layers-per-block", "1"]
    postmean(python, folder, "train", "edm-digits", "--targets", "t", *shared, "--out", "m", *small)
    postmean(python, folder, "sample", "m", "--out", "samples", "--count", "2", "--steps", "2")
    assert {"000000.png", "000001.png"} <= {path.name for path in (folder / "samples").iterdir()}
    program = "from postmean.training import TargetStream\nprint(len(TargetStream.open('t', 's', 64)))"
    done = subprocess.run([python, "-c", program], cwd=folder, capture_output=True, text=True, env=clean_environment())
    assert done.stdout == "16\n", done.stderr


def test_the_sdist_works_in_its_place(python: Path, sdist: Path, tmp_path: Path) -> None:
    uv("pip", "install", "--quiet", "--python", python, "--no-deps", "--reinstall-package", "postmean", sdist)
    assert postmean(python, tmp_path, "--version").split() == ["postmean", PROJECT["version"]]
    make_photos(tmp_path)
    assert "40 images" in postmean(python, tmp_path, "import", "photos", "s")
    postmean(python, tmp_path, "index", "s")
    postmean(python, tmp_path, "plan", "edm-digits", "--store", "s", "--tuples", "1024")
