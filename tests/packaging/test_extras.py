"""A missing third-party package gives one line that names an extra which installs it."""

import ast
import tomllib
from collections.abc import Iterator
from itertools import combinations

import pytest
from packaging.requirements import Requirement

from postmean.base.errors import ConfigError
from postmean.base.extras import _DISTRIBUTIONS, check_installed, needs
from tests.packaging.conftest import ROOT

EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


CONFLICTS = [
    {item["extra"] for item in group}
    for group in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["conflicts"]
]


def installed_by(extra: str) -> set[str]:
    """Distributions that an extra lists, itself or through another extra."""
    listed = [Requirement(text) for text in EXTRAS[extra]]
    return {r.name for r in listed} | {
        name for r in listed if r.name == "postmean" for e in r.extras for name in installed_by(e)
    }


def uses() -> Iterator[tuple[str, str]]:
    """(extra, module) of every import that the sources guard."""
    for path in [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("training/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.With(items=[ast.withitem(ast.Call(ast.Name("needs"), [ast.Constant(str(extra))]))]):
                    for inner in ast.walk(node):
                        if isinstance(inner, ast.Import):
                            yield from ((extra, alias.name.split(".")[0]) for alias in inner.names)
                        if isinstance(inner, ast.ImportFrom):
                            yield extra, str(inner.module).split(".")[0]
                case ast.Call(ast.Name("check_installed"), [ast.Constant(str(extra)), *modules]):
                    yield from ((extra, ast.literal_eval(module)) for module in modules)


def test_a_missing_module_is_one_line_that_says_what_to_install() -> None:
    for call in (lambda: check_installed("generate", "sys", "no_such_module"), lambda: import_missing("generate")):
        with pytest.raises(ConfigError) as raised:
            call()
        assert str(raised.value) == "needs no_such_module: pip install 'postmean[generate]'"


def import_missing(extra: str) -> None:
    with needs(extra):
        import no_such_module.inner  # type: ignore[import-not-found]  # noqa: F401


def test_a_module_that_is_there_but_broken_keeps_its_own_error() -> None:
    with pytest.raises(ImportError, match="libcuda"), needs("faiss"):
        raise ImportError("libcuda.so.1: cannot open shared object file")


def test_every_extra_that_is_named_installs_the_module() -> None:
    guarded = set(uses())
    assert {module for _, module in guarded} == {
        *(
            "PIL",
            "boto3",
            "braceexpand",
            "diffusers",
            "faiss",
            "fsspec",
            "jinja2",
            "matplotlib",
            "ray",
            "safetensors",
            "sklearn",
            "tensorboardX",
            "torch_fidelity",
            "uvicorn",
            "wandb",
            "zarr",
        )
    }
    for extra, module in guarded:
        names = {_DISTRIBUTIONS.get(module, module), f"{module}-cpu"}
        assert names & installed_by(extra), f"{extra} does not install {module}"


def test_extras_with_two_builds_of_faiss_cannot_meet() -> None:
    builds = {extra: {name for name in installed_by(extra) if name.startswith("faiss")} for extra in EXTRAS}
    for first, second in combinations(EXTRAS, 2):
        meets = any({first, second} <= group for group in CONFLICTS)
        assert meets == (len(builds[first] | builds[second]) > 1), (first, second)
