"""The dial between the usual target of training and the posterior mean."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from postmean.base.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from postmean.training.stream.batch import TargetBatch


@dataclass(frozen=True, kw_only=True)
class Dial:
    """target = x + beta(sigma) (mean - x): beta 1 is the posterior mean, 0 the usual target x.

    All targets have the same expectation given z. The variance of a target given z is (1 - beta)^2 times the posterior
    variance, so beta sets how much noise the targets have.
    """

    beta: tuple[float, ...] = (1.0,)
    """One number for every sigma, or one for each of --dial.sigma."""
    sigma: tuple[float, ...] = ()
    """Rising noise levels of the betas. Between them beta is linear in ln sigma, outside it is that of the nearest."""

    def __post_init__(self) -> None:
        if len(self.beta) != max(1, len(self.sigma)):
            raise ConfigError(
                f"dial: {len(self.beta)} values of beta, {len(self.sigma)} of sigma: pass one beta, or as many as sigma"
            )
        if not all(0 <= beta <= 1 for beta in self.beta):
            raise ConfigError(f"dial.beta: expected numbers from 0 (the usual target) to 1 (the mean), got {self.beta}")
        levels = (0.0, *self.sigma, float("inf"))
        if not all(low < high for low, high in pairwise(levels)):
            raise ConfigError(f"dial.sigma: expected positive rising noise levels, got {self.sigma}")

    @property
    def is_mean(self) -> bool:
        """Whether the target is the posterior mean at every sigma."""
        return set(self.beta) == {1.0}

    def at(self, sigma: "torch.Tensor") -> "torch.Tensor":
        """beta at these noise levels, [B] like sigma."""
        import numpy as np
        import torch

        if len(self.beta) == 1:
            return torch.full_like(sigma, self.beta[0])
        levels = sigma.detach().cpu().double().log().numpy()
        return torch.as_tensor(np.interp(levels, np.log(self.sigma), self.beta)).to(sigma)

    def target(self, batch: "TargetBatch") -> "torch.Tensor":
        """The targets of a batch, float32 [B, C, H, W]."""
        if self.is_mean:
            return batch.mean
        beta = self.at(batch.sigma)[:, None, None, None]
        return batch.x + beta * (batch.mean - batch.x)
