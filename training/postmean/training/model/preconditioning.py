"""The denoiser interface D(z, sigma, label) -> image. It hides how the network inside is parametrised.

The denoiser always takes the canonical z = x + sigma eps, whatever the process; score and velocity follow from D and z
(`postmean.contract.process`).
"""

import torch
from torch import nn

from postmean.training.model.preconditionings import AnyPreconditioning


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
        c_skip, c_out, c_in = (c[:, None, None, None] for c in self.preconditioning.scalings(sigma))
        z = z.to(torch.float32)
        output = self.network(c_in * z, self.preconditioning.time(sigma), class_labels=label)
        return c_skip * z + c_out * output.to(torch.float32)
