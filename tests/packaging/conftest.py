"""The wheel, and clean environments in which it is installed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")

Environment = Callable[..., Path]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built source distribution."""
    return build("sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Makes an environment with these requirements at the versions of the constraints file; returns its Python."""

    def make(*requirements: str) -> Path:
        folder = tmp_path_factory.mktemp("environment") / "venv"
        python = folder / "bin" / "python"
        constraints = ["--constraint", str(ROOT / "infra" / "constraints.txt")]
        for command in (
            ["venv", "--quiet", "--python", sys.executable, str(folder)],
            ["pip", "install", "--quiet", "--python", str(python), *constraints, *requirements],
        ):
            done = subprocess.run([UV, *command], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        return python

    return make


def build(target: str, folder: Path) -> Path:
    """Build the distribution with the hatchling of this environment, so that nothing is downloaded."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    return path


def run_in(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; nothing in its environment points to this checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done
