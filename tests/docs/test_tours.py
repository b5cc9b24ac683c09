"""The commands of the README's tour, and those that docs/cookbook.md and docs/choosing.md begin with, run in order."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.docs.shell_blocks import ROOT

pytestmark = pytest.mark.slow

TOURS = {"README.md": "Five minutes on your own images", "docs/cookbook.md": "Cookbook", "docs/choosing.md": "A preset"}


def commands(page: str, title: str) -> list[str]:
    """Lines of the shell blocks of a section, subsections left out."""
    section = re.search(rf"^#+ {title}\n(.*?)(?=^#+ |\Z)", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert section
    blocks = re.findall(r"^```sh\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("page", TOURS)
def test_its_commands_run_in_order(page: str, tmp_path: Path) -> None:
    """Slow: Ray starts for each run."""
    rng = np.random.default_rng(0)
    for number in range(48):
        path = tmp_path / "photos" / f"class{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        side = (90, 70) if page == "README.md" else (16, 16)
        smooth = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(side)
        smooth.save(path)
    if page == "docs/choosing.md":
        for words in (["import", "photos", "photos.store"], ["index", "photos.store"]):
            subprocess.run([sys.executable, "-m", "postmean", *words], cwd=tmp_path, check=True)
    lines = commands(page, TOURS[page])
    assert len(lines) >= 2
    for line in lines:
        words, _, file = line.partition(" > ")
        assert words.startswith("postmean ")
        arguments = [sys.executable, "-m", "postmean", *shlex.split(words)[1:]]
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        if file:
            (tmp_path / file).write_text(done.stdout)
