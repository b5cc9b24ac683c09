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
        learned: what the loss learns beside the network, such as an uncertainty of sigma; not used by the denoiser.
    """

    def __init__(
        self, network: nn.Module, preconditioning: AnyPreconditioning, learned: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.preconditioning = preconditioning
        self.learned = learned

    def forward(
        self,
        z: torch.Tensor,
        sigma: torch.Tensor,
        label: torch.Tensor | None = None,
        sigma_next: torch.Tensor | None = None,
        raw: bool = False,
    ) -> torch.Tensor:
        """E[x | z, sigma, label], or the consistency function f(z, sigma).

        Args:
            z: [B, C, H, W].
            sigma: [B], or one number for all as a tensor.
            label: int64 [B] for a class-conditional network, else None.
            sigma_next: [B], for a network with two times: the level that it steps to; None: 0, the image.
            raw: whether to give the network's own output F instead.
        Returns:
            float32 [B, C, H, W].
        """
        sigma, z = sigma.to(torch.float32).expand(len(z)), z.to(torch.float32)
        c_skip, c_out, c_in = (c[:, None, None, None] for c in self.preconditioning.scalings(sigma))
        time = self.preconditioning.time(sigma)
        step = None
        if self.takes_step:
            step = time - self.preconditioning.time(torch.zeros_like(sigma) if sigma_next is None else sigma_next)
        output = self.output(c_in * z, time, label, step)
        return output if raw else c_skip * z + c_out * output

    def output(
        self, x: torch.Tensor, time: torch.Tensor, label: torch.Tensor | None, step: torch.Tensor | None
    ) -> torch.Tensor:
        """The network F at its own inputs, float32 [B, C, H, W].

        Args:
            x: c_in z.
            time: [B], that of the preconditioning.
            step: [B], for a network with two times: how far the time falls; else None.
        """
        more = {} if step is None else {"second_time": step}
        return self.network(x, time, class_labels=label, **more).to(torch.float32)

    @property
    def takes_step(self) -> bool:
        """Whether the network has two times."""
        return getattr(self.network, "second_time", False)
