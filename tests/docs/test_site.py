"""The site builds, with no link or anchor that leads nowhere, and has every public name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import postmean.pipeline
import postmean.training
from tests.docs.messages import ROOT

pytestmark = pytest.mark.slow


def test_the_site_builds_strictly_and_has_the_whole_api(tmp_path: Path) -> None:
    """Slow: it reads all sources."""
    pytest.importorskip("material", reason="needs the extra docs")
    pytest.importorskip("mkdocstrings", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr + done.stdout
    for module in (postmean.pipeline, postmean.training):
        page = (tmp_path / "site" / "reference" / f"{module.__name__.partition('.')[2]}.html").read_text()
        shown = set(re.findall(r'id="postmean\.\w+\.(\w+)"', page))
        assert shown >= set(module.__all__)
    search = (tmp_path / "site" / "search" / "search_index.json").read_text()
    assert "TargetStream" in search and "Troubleshooting" in search
