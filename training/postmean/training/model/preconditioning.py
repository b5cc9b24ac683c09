"""The denoiser interface D(z, sigma, label) -> image. It hides how the network inside is parametrised.

The denoiser always takes the canonical z = x + sigma eps, whatever the process; score and velocity follow from D and z
(`postmean.contract.process`).
"""

import torch
from torch import nn

from postmean.training.config import AnyPreconditioning, CMPreconditioning

SMALLEST_TIME_SIGMA = 1e-5
"""Floor of sigma in ln sigma: ECT evaluates at sigma = 0, where c_out = 0 but ln sigma is not finite."""


class Denoiser(nn.Module):
    """A network F as a denoiser or consistency function: D = c_skip z + c_out F(c_in z, time(sigma), label).

    Args:
        network: a `postmean.training.model.networks.Network`.
    """

    def __init__(self, network: nn.Module, preconditioning: AnyPreconditioning) -> None:
        super().__init__()
        self.network = network
        self.preconditioning = preconditioning

    def forward(self, z: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """E[x | z, sigma, label], or the consistency function f(z, sigma).

        Args:
            z: [B, C, H, W].
            sigma: [B].
            label: int64 [B] for a class-conditional network, else None.
        Returns:
            float32 [B, C, H, W].
        """
        sigma = sigma.to(torch.float32)
        c_skip, c_out, c_in = (c[:, None, None, None] for c in scalings(self.preconditioning, sigma))
        z = z.to(torch.float32)
        time = time_conditioning(self.preconditioning, sigma)
        output = self.network(c_in * z, time, class_labels=label)
        return c_skip * z + c_out * output.to(torch.float32)


def scalings(
    preconditioning: AnyPreconditioning, sigma: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """c_skip, c_out and c_in: Karras et al. 2022, Table 1; for CM, shifted by sigma_min (Song et al. 2023, App. C)."""
    variance = preconditioning.sigma_data**2
    above = sigma - preconditioning.sigma_min if isinstance(preconditioning, CMPreconditioning) else sigma
    c_skip = variance / (above**2 + variance)
    c_out = above * preconditioning.sigma_data / (sigma**2 + variance).sqrt()
    c_in = 1 / (sigma**2 + variance).sqrt()
    return c_skip, c_out, c_in


def time_conditioning(preconditioning: AnyPreconditioning, sigma: torch.Tensor) -> torch.Tensor:
    """Input of the network's time embedding: ln(sigma) / 4, or 250 ln(sigma) as diffusers' CM scheduler passes."""
    scale = 250.0 if isinstance(preconditioning, CMPreconditioning) else 0.25
    return scale * sigma.clamp_min(SMALLEST_TIME_SIGMA).log()
