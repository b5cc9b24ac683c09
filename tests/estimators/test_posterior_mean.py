"""`PosteriorMean` gives the posterior of any z by the float64 definition, and samplers of other projects run on it."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from postmean.base.errors import ConfigError, DataError, EstimatorError
from postmean.contract.image_store import ImageStore
from postmean.estimators.posterior_mean import PosteriorMean
from tests.support.posterior_examples import images_x, posterior, random_images, store_of

SHAPE = (3, 4, 5)
LEVELS = [1e-6, 0.002, 0.1, 0.5, 2.0, 8.0, 80.0, 1e4]
LABELS = np.arange(60) % 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return store_of(tmp_path_factory.mktemp("mean") / "store", random_images(60, SHAPE), LABELS)


def points_anywhere(count: int, seed: int = 0) -> np.ndarray:
    """Points that no image and no noise level made: near images, midway between two, at the origin, far away."""
    rng = np.random.default_rng(seed)
    x = images_x(random_images(60, SHAPE)).reshape(-1, *SHAPE)
    kinds = [
        x[rng.integers(60)] + 0.3 * rng.standard_normal(SHAPE),
        (x[1] + x[2]) / 2,
        np.zeros(SHAPE),
        100 * rng.standard_normal(SHAPE),
        rng.uniform(-1, 1, SHAPE),
    ]
    return np.stack([kinds[i % len(kinds)] for i in range(count)]).astype(np.float32)


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("label", [None, 1])
def test_everything_at_any_z_is_that_of_the_float64_definition(
    store: ImageStore, flips: bool, label: int | None
) -> None:
    pixels = random_images(60, SHAPE)
    x = images_x(pixels, flips, None if label is None else np.flatnonzero(label == LABELS))
    z = points_anywhere(40)
    sigma = np.repeat(LEVELS, 5)
    found = PosteriorMean(store, flips=flips).at(z, sigma, label)
    for row in range(40):
        exact = posterior(x, z[row].reshape(-1), sigma[row])
        z_D, mean_D = z[row].reshape(-1).astype(np.float64), exact.mean
        scale = 1 + np.abs(z_D).max()
        assert np.square(found.mean[row].reshape(-1) - mean_D).mean() < 1e-8
        np.testing.assert_allclose(found.ess[row], 1 / np.square(exact.p).sum(), rtol=1e-3)
        np.testing.assert_allclose(found.top_weight[row], exact.p.max(), rtol=1e-3)
        np.testing.assert_allclose(found.variance[row], exact.variance / x.shape[1], rtol=1e-2, atol=1e-6)
        for name, by_definition, per_error in (
            ("score", (mean_D - z_D) / sigma[row] ** 2, 1 / sigma[row] ** 2),
            ("velocity", (z_D - mean_D) / sigma[row] - mean_D, 1 + 1 / sigma[row]),
        ):
            off = np.abs(getattr(found, name)[row].reshape(-1) - by_definition)
            assert off.max() < per_error * 3e-4 * scale, name


@pytest.mark.parametrize("label", [None, 1])
def test_log_density_and_divergence_are_those_of_the_mixture_of_gaussians(store: ImageStore, label: int | None) -> None:
    x = images_x(random_images(60, SHAPE), False, None if label is None else np.flatnonzero(label == LABELS))
    dim, size = x.shape[1], 30
    z, sigma = points_anywhere(size), np.repeat([0.1, 0.5, 2.0, 8.0, 80.0, 1e4], 5)
    found = PosteriorMean(store).at(z, sigma, label)
    for row in range(size):
        flat = z[row].reshape(-1).astype(np.float64)
        log_terms = multivariate_normal(flat, sigma[row] ** 2 * np.eye(dim)).logpdf(x)
        np.testing.assert_allclose(found.log_density[row], logsumexp(log_terms) - np.log(len(x)), atol=3e-3)
        step = 1e-4 * sigma[row]
        moved = [[posterior(x, flat + s * e, sigma[row]).mean @ e for s in (-step, step)] for e in np.eye(dim)]
        expected = np.diff(moved, axis=1).sum() / (2 * step)
        np.testing.assert_allclose(found.divergence[row], expected, rtol=1e-2, atol=1e-6 * dim / sigma[row] ** 2)


KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy float32": lambda z: z,
    "numpy float64": lambda z: z.astype(np.float64),
    "torch float32": torch.from_numpy,
    "torch float64": lambda z: torch.from_numpy(z).double(),
    "torch bfloat16": lambda z: torch.from_numpy(z).bfloat16(),
    "torch that asks for gradients": lambda z: torch.from_numpy(z).requires_grad_(),
    "numpy read-only": lambda z: np.frombuffer(z.tobytes(), np.float32).reshape(z.shape),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_goes_in_comes_out(store: ImageStore, kind: str) -> None:
    z = KINDS[kind](points_anywhere(5))
    denoiser = PosteriorMean(store)
    found = denoiser.at(z, 0.5)
    for array in (found.mean, found.score, found.velocity, denoiser(z, 0.5)):
        assert type(array) is type(z) and array.dtype == z.dtype and array.shape == z.shape
    assert all(type(array) is type(z) and array.shape == (5,) for array in (found.ess, found.top_weight))
    same = z.detach().float().numpy() if isinstance(z, torch.Tensor) else z.astype(np.float32)
    mean = found.mean.float().numpy() if isinstance(found.mean, torch.Tensor) else found.mean
    np.testing.assert_allclose(mean, denoiser(same, np.full(5, 0.5)), atol=4e-3)  # half a step of bfloat16 at 1


def test_rows_may_have_labels_and_levels_of_their_own(store: ImageStore) -> None:
    z, sigma, label = points_anywhere(9), np.geomspace(0.01, 10, 9), np.arange(9) % 3
    denoiser = PosteriorMean(store)
    together = denoiser(torch.from_numpy(z), torch.from_numpy(sigma), torch.from_numpy(label))
    for row in range(9):
        alone = denoiser(z[row : row + 1], float(sigma[row]), int(label[row]))
        np.testing.assert_allclose(together[row], alone[0], atol=1e-6)


def test_what_cannot_be_is_refused_by_name(store: ImageStore, tmp_path: Path) -> None:
    denoiser, z = PosteriorMean(store), points_anywhere(2)
    mistakes: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: denoiser(z[:, :, :3], 1.0), ConfigError, r"z: expected floating point \[B, 3, 4, 5\]"),
        (lambda: denoiser(z[0], 1.0), ConfigError, "z: expected"),
        (lambda: denoiser(z.tolist(), 1.0), ConfigError, "z: expected an array of torch or numpy, got list"),
        (lambda: denoiser(z[:0], 1.0), ConfigError, "B >= 1"),
        (lambda: denoiser(z.astype(np.uint8), 1.0), ConfigError, "got uint8"),
        (lambda: denoiser(z * np.inf, 1.0), EstimatorError, "finite"),
        (lambda: denoiser(z, 0.0), ConfigError, "sigma: expected noise levels within 1e-12"),
        (lambda: denoiser(z, np.nan), ConfigError, "sigma"),
        (lambda: denoiser(z, np.ones(3)), ConfigError, r"sigma: expected one number or \[2\]"),
        (lambda: denoiser(z, 1.0, 3), ConfigError, r"label: expected integers 0\.\.2"),
        (lambda: denoiser(z, 1.0, np.eye(2)), ConfigError, "label"),
        (lambda: denoiser(z, 1.0, 0.5), ConfigError, "label"),
        (lambda: PosteriorMean(tmp_path / "nothing"), DataError, "no image store"),
        (lambda: PosteriorMean(store, device="tpu"), ConfigError, "device tpu"),
        (lambda: PosteriorMean(store_of(tmp_path / "s", random_images(4, SHAPE)))(z, 1.0, 0), ConfigError, "no labels"),
    ]
    for wrong, kind, message in mistakes:
        with pytest.raises(kind, match=message):
            wrong()


# Samplers, written as k-diffusion and EDM write them: they know nothing of this package.


def euler(model: Callable, x: torch.Tensor, sigmas: torch.Tensor, extra_args: dict) -> torch.Tensor:
    """k-diffusion's `sample_euler` without churn: Algorithm 2 of Karras et al. 2022 to first order."""
    s_in = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * s_in, **extra_args)
        d = (x - denoised) / sigmas[i]
        x = x + d * (sigmas[i + 1] - sigmas[i])
    return x


def heun(model: Callable, x: torch.Tensor, sigmas: torch.Tensor, extra_args: dict) -> torch.Tensor:
    """k-diffusion's `sample_heun` without churn: Algorithm 2 of Karras et al. 2022."""
    s_in = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        d = (x - model(x, sigmas[i] * s_in, **extra_args)) / sigmas[i]
        dt = sigmas[i + 1] - sigmas[i]
        if sigmas[i + 1] > 0:
            there = x + d * dt
            d = (d + (there - model(there, sigmas[i + 1] * s_in, **extra_args)) / sigmas[i + 1]) / 2
        x = x + d * dt
    return x


def edm(net: Any, latents: torch.Tensor, labels: Any, steps: int = 18) -> torch.Tensor:
    """EDM's `edm_sampler` without churn: it works in float64 and asks the network to round sigma."""
    low, high = max(0.002, net.sigma_min), min(80, net.sigma_max)
    ramp = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    levels = (high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    levels = torch.cat([net.round_sigma(levels), levels.new_zeros(1)])
    x = latents.to(torch.float64) * levels[0]
    for here, there in pairwise(levels):
        d = (x - net(x, here, labels).to(torch.float64)) / here
        following = x + (there - here) * d
        if there > 0:
            d = (d + (following - net(following, there, labels).to(torch.float64)) / there) / 2
            following = x + (there - here) * d
        x = following
    return x


class ByDefinition:
    """The same denoiser by brute force in float64."""

    sigma_min, sigma_max = 0.0, float("inf")

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __call__(self, z: torch.Tensor, sigma: torch.Tensor, label: Any = None) -> torch.Tensor:
        members = [self.x if label is None else self.x[int(label[row]) == LABELS] for row in range(len(z))]
        levels = sigma.expand(len(z)).tolist()
        points = z.double().numpy().reshape(len(z), -1)
        means = [posterior(m, p, s).mean for m, p, s in zip(members, points, levels, strict=True)]
        return torch.from_numpy(np.stack(means)).reshape(z.shape).to(z.dtype)

    def round_sigma(self, sigma: torch.Tensor) -> torch.Tensor:
        return sigma


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("sampler", ["euler", "heun", "edm"])
def test_samplers_of_other_projects_run_and_end_at_images_of_the_store(
    store: ImageStore, sampler: str, conditional: bool
) -> None:
    x = images_x(random_images(60, SHAPE))
    label = torch.arange(6) % 3 if conditional else None
    noise = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    sigmas = torch.cat([torch.from_numpy(np.geomspace(80, 0.002, 30)).float(), torch.zeros(1)])

    def run(denoiser: Any) -> torch.Tensor:
        if sampler == "edm":
            return edm(denoiser, noise, label)
        extra_args = {} if label is None else {"label": label}
        return {"euler": euler, "heun": heun}[sampler](denoiser, noise * sigmas[0], sigmas, extra_args)

    ours, theirs = run(PosteriorMean(store)), run(ByDefinition(x))
    assert ours.dtype == theirs.dtype and torch.isfinite(ours).all()
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
    # the flow of an exact denoiser ends at an image, of the class that was asked for
    distance = np.abs(ours.flatten(1).double().numpy()[:, None] - x).max(2)
    assert (distance.min(1) < 1e-3).all()
    if label is not None:
        assert LABELS[distance.argmin(1)].tolist() == label.tolist()
