"""Guidance: a denoiser pushed away from a worse one."""

import torch

from postmean.training.model.sampling import DenoiserFunction


def guided(
    denoiser: DenoiserFunction, guide: DenoiserFunction, weight: float, guide_label: int | None, has_labels: bool
) -> DenoiserFunction:
    """D_guide + weight (D - D_guide).

    Classifier-free guidance (Ho & Salimans 2022) where the guide knows no class; autoguidance (Karras et al. 2024,
    arXiv:2406.02507) where it is a worse model for the same classes.

    Args:
        weight: 1 for the denoiser itself, above 1 to guide.
        guide_label: class that the guide is asked for, in place of the images' own; None: see `has_labels`.
        has_labels: whether the guide gets the images' own classes; otherwise it gets none.
    """

    def denoise(z: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        theirs = label if has_labels else None
        if guide_label is not None:
            theirs = torch.full((len(z),), guide_label, dtype=torch.int64, device=z.device)
        worse = guide(z, sigma, theirs)
        return worse + weight * (denoiser(z, sigma, label) - worse)

    return denoise
