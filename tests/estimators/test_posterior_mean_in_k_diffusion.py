"""k-diffusion's own samplers, where that library is installed, draw images of the store from `PosteriorMean`.

pip install --no-deps k-diffusion torchdiffeq torchsde trampoline
"""

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from postmean.contract.image_store import to_unit
from postmean.estimators.posterior_mean import PosteriorMean
from tests.support.stores import digits_store

pytestmark = pytest.mark.slow

SAMPLERS = (
    "euler", "euler_ancestral", "heun", "dpm_2", "dpm_2_ancestral", "lms", "dpmpp_2s_ancestral", "dpmpp_sde",
    "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde",
)  # fmt: skip


@pytest.fixture(scope="module")
def sampling() -> Any:
    """`k_diffusion.sampling`, without what the package's `__init__` imports: training, metrics, CLIP."""
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("k-diffusion is not installed: see the top of this file")
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["k_diffusion"] = package
    yield importlib.import_module("k_diffusion.sampling")
    for name in [name for name in sys.modules if name.partition(".")[0] == "k_diffusion"]:
        del sys.modules[name]


@pytest.mark.filterwarnings("ignore:Should have")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_its_samplers_end_at_images_of_the_class_asked_for(sampling: Any, sampler: str, tmp_path: Path) -> None:
    store = digits_store(tmp_path / "store", 400)
    assert store.labels is not None
    torch.manual_seed(0)
    sigmas, label = sampling.get_sigmas_karras(30, 0.002, 80.0), torch.arange(8)
    sample = getattr(sampling, f"sample_{sampler}")
    images = sample(
        PosteriorMean(store), 80 * torch.randn(8, 1, 8, 8), sigmas, extra_args={"label": label}, disable=True
    )
    distance = np.abs(images.flatten(1).numpy()[:, None] - to_unit(store.images).reshape(400, -1)).max(2)
    assert distance.min(1).max() < 1e-3
    assert store.labels[distance.argmin(1)].tolist() == label.tolist()
