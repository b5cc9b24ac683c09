"""The optimiser. The command line imports this file, so torch is imported only when an optimiser is made."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from postmean.base.checks import check_finite_positive
from postmean.base.errors import ConfigError

if TYPE_CHECKING:
    import torch


class Optimiser(Protocol):
    """The form of an optimiser's settings. `train(..., optimiser=...)` takes any frozen dataclass of this form."""

    @property
    def lr(self) -> float:
        """Learning rate, which the schedule multiplies."""
        ...

    @property
    def clip_norm(self) -> float | None:
        """Largest norm of the gradient; None: no clipping."""
        ...

    def make(self, parameters: "Iterable[torch.nn.Parameter]") -> "torch.optim.Optimizer":
        """The optimiser over these parameters, in their order. Its state must be tensors: it goes into checkpoints."""
        ...


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Adam, RAdam or AdamW. The schedule multiplies the rate."""

    name: Literal["adam", "radam", "adamw"]
    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    """Decoupled for adamw (Loshchilov & Hutter 2019), added to the gradient for the others."""
    clip_norm: float | None = None
    """Largest norm of the gradient; None: no clipping."""

    def __post_init__(self) -> None:
        positive = {"lr": self.lr, "eps": self.eps, "clip_norm": self.clip_norm}
        check_finite_positive("optimiser", **{name: value for name, value in positive.items() if value is not None})
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and 0 <= self.weight_decay < float("inf")):
            raise ConfigError(
                f"optimiser: expected 0 <= beta1, beta2 < 1 and finite weight_decay >= 0, got {self.beta1}, "
                f"{self.beta2}, {self.weight_decay}"
            )

    def make(self, parameters: "Iterable[torch.nn.Parameter]") -> "torch.optim.Optimizer":
        """The optimiser over these parameters."""
        import torch

        kind = {"adam": torch.optim.Adam, "radam": torch.optim.RAdam, "adamw": torch.optim.AdamW}[self.name]
        betas = (self.beta1, self.beta2)
        return kind(parameters, lr=self.lr, betas=betas, eps=self.eps, weight_decay=self.weight_decay)
