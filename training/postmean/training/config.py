"""Settings of a training run. No torch here, so that `postmean train --help` is quick."""

from dataclasses import dataclass
from typing import Literal

from postmean.base.errors import ConfigError
from postmean.contract.recipe import TargetRecipe
from postmean.training.model.ema import AnyEMA
from postmean.training.model.losses import AnyLoss
from postmean.training.model.networks import AnyNetwork
from postmean.training.model.preconditionings import AnyPreconditioning, CMPreconditioning
from postmean.training.optimiser import OptimiserConfig
from postmean.training.schedules import AnySchedule, ConstantSchedule


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training recipe. All fields except `FREE_FIELDS` decide the weights at a given step, but for roundings."""

    recipe: TargetRecipe
    """Recipe that the targets must have been generated with."""
    batch_size: int
    """Tuples per step, over all ranks."""
    steps: int
    """Training steps."""
    network: AnyNetwork
    preconditioning: AnyPreconditioning
    loss: AnyLoss
    optimiser: OptimiserConfig
    schedule: AnySchedule = ConstantSchedule()
    """Factor on the learning rate."""
    ema: AnyEMA
    seed: int = 0
    """Seed of the initial weights and of dropout; the tuples have the seed of their run."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Numbers that the network computes with; weights and losses are fp32."""
    micro_batch: int | None = None
    """Most tuples per rank in one pass through the network; None: the rank's whole share of the batch."""
    log_every: int = 50
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints."""
    keep_checkpoints: int = 2
    """Newest checkpoints to keep."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "log_every", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ConfigError(f"micro_batch: expected at least 1, got {self.micro_batch}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed: expected 0 <= seed < 2^63, got {self.seed}")
        noise = self.recipe.noise
        if self.loss.is_consistency != noise.has_teacher:
            raise ConfigError(
                f"loss {self.loss.kind} does not go with noise {noise.kind}: "
                "consistency losses (ict, ect) need a sigma_next, so noise ict or ect, and edm has no use for one"
            )
        if self.loss.needs_boundary and not isinstance(self.preconditioning, CMPreconditioning):
            raise ConfigError(f"loss {self.loss.kind} needs preconditioning cm: f(x, sigma_min) = x must hold")
        if noise.steps_of is not None and noise.steps_of != self.batch_size:
            raise ConfigError(
                f"batch_size {self.batch_size}, noise.batch_size {noise.steps_of}: the curriculum counts "
                "steps of noise.batch_size tuples, so pass the same value for both (and generate with it)"
            )
        lowest, boundary = (getattr(part, "sigma_min", None) for part in (noise, self.preconditioning))
        if lowest is not None and boundary is not None and lowest != boundary:
            raise ConfigError(f"noise.sigma_min {lowest}, preconditioning.sigma_min {boundary}: pass one value")


TOLD_FIELDS = frozenset({"micro_batch", "precision"})
"""Fields that may change when a run is resumed, and are told: they change roundings and dropout masks."""
FREE_FIELDS = TOLD_FIELDS | {"steps", "log_every", "checkpoint_every", "keep_checkpoints"}
"""Fields that may change when a run is resumed."""
