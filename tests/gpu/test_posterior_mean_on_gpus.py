"""`PosteriorMean` on a GPU, or on the stand-in for one: any z from either device, by the same float64 oracle."""

from pathlib import Path

import numpy as np
import pytest
import torch

from postmean.estimators.posterior_mean import PosteriorMean
from tests.support.posterior_examples import images_x, posterior, random_images, store_of

SIGMA = np.geomspace(0.002, 80, 24)


@pytest.mark.parametrize("where", ["cpu", "cuda"])
@pytest.mark.parametrize("label", [None, 1])
def test_the_mean_on_a_gpu_matches_float64_and_comes_back_to_z(tmp_path: Path, where: str, label: int | None) -> None:
    pixels, labels = random_images(300, (3, 8, 8)), np.arange(300) % 4
    chosen = None if label is None else np.flatnonzero(labels == label)
    x = images_x(pixels, True, chosen)
    z = (x[:24] + SIGMA[:, None] * np.random.default_rng(0).standard_normal((24, 192))).astype(np.float32)
    denoiser = PosteriorMean(store_of(tmp_path / "store", pixels, labels), flips=True, device="cuda")
    points = torch.from_numpy(z).reshape(24, 3, 8, 8).to(where)
    found = denoiser.at(points, torch.from_numpy(SIGMA).to(where), label)
    assert found.mean.device.type == found.score.device.type == found.ess.device.type == where
    exact = [posterior(x, z[row], SIGMA[row]) for row in range(24)]
    mean = found.mean.cpu().numpy().reshape(24, -1)
    assert np.square(mean - np.stack([p.mean for p in exact])).mean(1).max() < 1e-8
    np.testing.assert_allclose(found.ess.cpu().numpy(), [1 / np.square(p.p).sum() for p in exact], rtol=1e-2)
    np.testing.assert_allclose(found.top_weight.cpu().numpy(), [p.p.max() for p in exact], rtol=1e-2)
