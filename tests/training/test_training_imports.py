"""The trainer knows nothing of Ray or FAISS, and its commands show their help without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

import postmean.training


def modules() -> list[str]:
    root = Path(postmean.training.__file__).parent
    paths = [p.relative_to(root.parents[1]).with_suffix("") for p in root.rglob("*.py") if p.name != "__init__.py"]
    return sorted(".".join(p.parts) for p in paths)


def loaded_after(code: str, *names: str) -> str:
    code += f"\nimport sys; print([n for n in {names!r} if n in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_no_training_module_loads_ray_or_faiss() -> None:
    assert len(modules()) > 15
    code = "\n".join(f"import {name}" for name in modules())
    assert loaded_after(code, "ray", "faiss") == "[]"


@pytest.mark.parametrize("name", ["train", "sample", "evaluate"])
def test_commands_do_not_load_torch_before_they_run(name: str) -> None:
    assert loaded_after(f"import postmean.training.cli.{name}", "torch", "diffusers", "torchvision") == "[]"
