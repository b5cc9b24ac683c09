"""The site: no link or anchor leads nowhere, every public name is there, and nothing is loaded from elsewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
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
    for path in (tmp_path / "site").rglob("*.html"):
        loaded = _Loaded(path.read_text())
        assert not [url for url in loaded.urls if re.match(r"(https?:)?//", url)], path
        assert not loaded.has_mermaid, f"{path}: the theme loads mermaid's script from elsewhere"
    search = (tmp_path / "site" / "search" / "search_index.json").read_text()
    assert "TargetStream" in search and "Troubleshooting" in search


class _Loaded(HTMLParser):
    """What a browser loads with a page: scripts, styles, fonts, pictures, frames; not where its links lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.has_mermaid = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.has_mermaid |= "mermaid" in (dict(attrs).get("class") or "").split()
        if tag != "a":
            self.urls += [url or "" for name, url in attrs if name in ("src", "href", "srcset", "data", "poster")]
