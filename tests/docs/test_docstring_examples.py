"""The examples in docstrings run and give what they show."""

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from postmean.pipeline import IndexConfig, index
from tests.support.exact_runs import make_run
from tests.support.stores import digits_store

ROOTS = [Path(__file__).parents[2] / name for name in ("pipeline", "training")]
MODULES = sorted(
    ".".join(path.relative_to(root).with_suffix("").parts)
    for root in ROOTS
    for path in root.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What examples may use beside the names of their module."""
    folder = tmp_path_factory.mktemp("examples")
    digits = digits_store(folder / "digits.store", 300)
    index(IndexConfig(store=digits.path), progress=False)
    make_run(folder / "targets", digits, 600)
    rng = np.random.default_rng(0)
    for number in range(6):
        path = folder / "photos" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(path)
    return {"digits": digits, "targets": str(folder / "targets"), "photos": folder / "photos", "Path": Path}


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(
    name: str, names: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs=names, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0 and result.failed == 0


def test_the_main_functions_and_classes_have_examples() -> None:
    assert {name.rpartition(".")[2] for name in MODULES} >= {
        "index",
        "plan",
        "verify",
        "posterior_mean",
        "stream",
        "config",
        "run_config",
        "score",
    }
