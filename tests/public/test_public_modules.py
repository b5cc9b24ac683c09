"""The two public modules: every name is there, typed, and imported only when it is used."""

import importlib
import subprocess
import sys

import pytest

MODULES = ("postmean.pipeline", "postmean.training")


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
