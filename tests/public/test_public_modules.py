"""The two public modules: every name is there, typed, and imported only when it is used."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

MODULES = ("postmean.pipeline", "postmean.training")
ROOT = Path(__file__).parents[2]
UNTYPED = ("checkpoint", "scores")
"""Modules of the trainer that call libraries without types."""


@pytest.mark.parametrize("name", MODULES)
def test_every_name_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert len(module.__all__) == len(set(module.__all__)) > 20
    for exported in module.__all__:
        assert getattr(module, exported) is getattr(module, exported)
    assert set(dir(module)) == set(module.__all__)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        _ = module.nothing


def test_importing_them_loads_nothing_heavy() -> None:
    heavy = ("numpy", "torch", "ray", "faiss", "tyro", "pyarrow", "PIL")
    code = f"import sys, {', '.join(MODULES)}; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_python_m_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "postmean", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("postmean ")


@pytest.mark.parametrize("name", MODULES)
def test_what_they_name_is_checked_strictly(name: str) -> None:
    """Each module that defines a public name is in the list of pyright's strict files."""
    strict = {ROOT / path for path in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]["strict"]}
    face = Path(importlib.import_module(name).__file__ or "")
    named = {node.module for node in ast.walk(ast.parse(face.read_text())) if isinstance(node, ast.ImportFrom)}
    public = [module for module in named if module and module.startswith("postmean") and "lazy" not in module]
    files = {Path(importlib.import_module(module).__file__ or "") for module in [*public, name]}
    unchecked = {f for f in files if f not in strict and f.parent not in strict}
    assert {path.stem for path in unchecked} <= {*UNTYPED}
