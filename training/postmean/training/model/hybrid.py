"""Sampling with two denoisers (Niedoba et al. 2024, Figure 5): one above a noise level, the other below."""

from dataclasses import replace

import torch

from postmean.base.checks import check_finite_positive
from postmean.training.model.sampling import DenoiserFunction, HeunSampler


def hybrid(above: DenoiserFunction, below: DenoiserFunction, sigma_switch: float) -> DenoiserFunction:
    """The denoiser that is `above` where sigma > sigma_switch, and `below` at and below it.

    A `PosteriorMean` fits as either. Each row of a batch goes to the denoiser of its own sigma.

    Raises:
        ConfigError: sigma_switch is not finite and positive.
    """
    check_finite_positive("hybrid", sigma_switch=sigma_switch)

    def denoise(z: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        high = sigma > torch.tensor(sigma_switch, dtype=sigma.dtype)  # samplers round their levels to this type
        if bool(high.all()):
            return above(z, sigma, label)
        if not bool(high.any()):
            return below(z, sigma, label)
        mean = torch.empty_like(z)
        for rows, denoiser in ((high, above), (~high, below)):
            mean[rows] = denoiser(z[rows], sigma[rows], None if label is None else label[rows]).to(z.dtype)
        return mean

    return denoise


def through(sampler: HeunSampler, sigma_switch: float) -> HeunSampler:
    """The sampler with a level at sigma_switch; the sampler itself where that is no lower than its first level."""
    levels = sampler.levels
    if sigma_switch >= levels[0]:
        return sampler
    return _with_levels(sampler, tuple(sorted({*levels, sigma_switch}, reverse=True)))


def from_level(sampler: HeunSampler, sigma_switch: float) -> HeunSampler:
    """The sampler that begins at sigma_switch, with those of its own levels that are lower."""
    return _with_levels(sampler, (sigma_switch, *(level for level in sampler.levels if level < sigma_switch)))


def _with_levels(sampler: HeunSampler, levels: tuple[float, ...]) -> HeunSampler:
    return replace(sampler, steps=len(levels), sigmas=levels)
