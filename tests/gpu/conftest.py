"""The device of the GPU tests: a real one with -m gpu, the stand-in otherwise."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch

from tests.support.cuda_stand_in import cuda_stand_in

# `make gpu` needs torch, numpy and scipy alone
MODULES = ("diffusers", "obstore", "pyarrow", "ray", "safetensors", "sklearn", "tyro")
if not all(map(find_spec, MODULES)):
    collect_ignore = ["test_gpu_actor.py", "test_gpu_budgets.py", "test_gpu_training.py"]


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.gpu)], autouse=True)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`cuda`, by one of the two."""
    if request.param == "real":
        if not torch.cuda.is_available():
            pytest.skip("torch finds no CUDA device")
        yield "cuda"
    else:
        with cuda_stand_in(monkeypatch):
            yield "cuda"
