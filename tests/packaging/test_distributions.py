"""Contents of the wheel and the source distribution."""

import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from postmean.contract.manifest import code_version
from tests.packaging.conftest import ROOT


def sources(root: str) -> set[str]:
    """Modules, templates, lists and py.typed markers of a source root, by path in the wheel."""
    kinds = (".py", ".txt", ".html", ".css", ".typed")
    files = (path for path in (ROOT / root).rglob("*") if path.suffix in kinds or path.name == "py.typed")
    return {str(path.relative_to(ROOT / root)) for path in files}


def test_wheel_and_sdist_hold_one_package_its_licence_and_the_core_alone(wheel: Path, sdist: Path) -> None:
    info = f"postmean-{code_version()}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
    assert {name.split("/")[0] for name in names} == {"postmean", info}
    assert {name for name in names if name.startswith("postmean/")} == sources("pipeline") | sources("training")
    # postmean is a namespace without an __init__: type checkers need a marker in each package below it
    packages = {"/".join(name.split("/")[:2]) for name in names if name.endswith("/__init__.py")}
    assert {f"{package}/py.typed" for package in packages} <= names
    assert f"{info}/licenses/LICENSE" in names
    required = {line.split(">=")[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert required == {"numpy", "obstore", "pyarrow", "pyyaml", "scipy", "torch", "tqdm", "tyro"}
    assert (
        metadata["Author"] == "The postmean authors"
        and metadata["Keywords"]
        and metadata["License-Expression"] == "MIT"
    )
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "hatch_build.py", "pyproject.toml", "pipeline/postmean/base/errors.py"} <= packed
    assert "training/postmean/training/loop.py" in packed


def test_the_version_is_in_one_place() -> None:
    version = code_version()
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{version}"\n' in project
    assert "version:" not in (ROOT / "CITATION.cff").read_text().replace("cff-version:", "")
    for root in ("pipeline", "training"):
        for path in (ROOT / root).rglob("*.py"):
            assert f'"{version}"' not in path.read_text() and "__version__ = " not in path.read_text(), path
