"""The README on the page of a package index."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.packaging.conftest import ROOT

REPOSITORY = "https://git.example/people/postmean"


def description(project: Path) -> str:
    """The long description that hatchling gives a package index."""
    command = [sys.executable, "-m", "hatchling", "metadata", "readme"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def links(markdown: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", markdown)


def test_links_and_pictures_are_whole_addresses_of_files_at_the_tag_of_the_version(tmp_path: Path) -> None:
    for name in ("README.md", "hatch_build.py", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    project = (ROOT / "pyproject.toml").read_text()
    urls = f'[project.urls]\nRepository = "{REPOSITORY}"\n\n[project.scripts]'
    (tmp_path / "pyproject.toml").write_text(project.replace("[project.scripts]", urls))
    tag = "v" + re.findall(r'^version = "(.+)"', project, re.MULTILINE)[0]

    shown = links(description(tmp_path))
    assert f"{REPOSITORY}/raw/{tag}/docs/images/demo.png" in shown
    assert f"{REPOSITORY}/blob/{tag}/docs/certificate.md" in shown
    ours = [link for link in links((ROOT / "README.md").read_text()) if "://" not in link]
    assert len(ours) > 10 and all((ROOT / link.partition("#")[0]).exists() for link in ours)
    assert [link.partition(f"/{tag}/")[2] for link in shown if REPOSITORY in link] == ours


def test_without_an_address_the_readme_is_as_it_stands() -> None:
    assert description(ROOT).strip() == (ROOT / "README.md").read_text().strip()
