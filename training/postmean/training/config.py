"""Settings of a training run. No torch here, so that `postmean train --help` is quick."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from postmean.base.checks import check_finite_positive
from postmean.base.errors import ConfigError
from postmean.contract.recipe import TargetRecipe
from postmean.training.dial import Dial
from postmean.training.model.losses import AnyLoss
from postmean.training.model.networks import AnyNetwork


@dataclass(frozen=True, kw_only=True)
class EDMPreconditioning:
    """Karras et al. 2022, Table 1: D = c_skip z + c_out F(c_in z, ln(sigma) / 4)."""

    kind: ClassVar[str] = "edm"
    time_conditioning: ClassVar[str] = "0.25 ln sigma"
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        check_finite_positive("preconditioning", sigma_data=self.sigma_data)


@dataclass(frozen=True, kw_only=True)
class CMPreconditioning:
    """Song et al. 2023, App. C: shifted by sigma_min so that f(x, sigma_min) = x; time 250 ln sigma."""

    kind: ClassVar[str] = "cm"
    time_conditioning: ClassVar[str] = "250 ln sigma"
    sigma_data: float = 0.5
    sigma_min: float = 0.002

    def __post_init__(self) -> None:
        check_finite_positive("preconditioning", sigma_data=self.sigma_data, sigma_min=self.sigma_min)


AnyPreconditioning = EDMPreconditioning | CMPreconditioning


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Adam or RAdam. The rate rises linearly, then is constant or falls with the square root of the images seen."""

    name: Literal["adam", "radam"]
    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    warmup_kimg: float = 0.0
    """Thousands of images over which the rate rises from 0."""
    decay_kimg: float | None = None
    """Thousands of images K after which the rate falls as sqrt(K / kimg) (Karras et al. 2024); None: it does not."""
    clip_norm: float | None = None
    """Largest norm of the gradient; None: no clipping."""

    def __post_init__(self) -> None:
        positive = {"lr": self.lr, "decay_kimg": self.decay_kimg, "clip_norm": self.clip_norm}
        check_finite_positive("optimiser", **{name: value for name, value in positive.items() if value is not None})
        if not (0 <= self.warmup_kimg < float("inf") and 0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ConfigError(
                f"optimiser: expected finite warmup_kimg >= 0 and 0 <= beta1, beta2 < 1, got "
                f"{self.warmup_kimg}, {self.beta1}, {self.beta2}"
            )


@dataclass(frozen=True, kw_only=True)
class ConstantEMA:
    """Average of the weights with the same decay at every step."""

    kind: ClassVar[str] = "constant"
    decay: float

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ConfigError(f"ema.decay: expected 0 <= decay < 1, got {self.decay}")

    def decay_at(self, images: int, batch_size: int) -> float:
        """Decay of the step that takes the run to `images` images."""
        return self.decay


@dataclass(frozen=True, kw_only=True)
class HalfLifeEMA:
    """Karras et al. 2022: a half-life in images, at most `ramp` times the images seen so far."""

    kind: ClassVar[str] = "half-life"
    half_life_kimg: float
    ramp: float = 0.05

    def __post_init__(self) -> None:
        check_finite_positive("ema", half_life_kimg=self.half_life_kimg, ramp=self.ramp)

    def decay_at(self, images: int, batch_size: int) -> float:
        """Decay of the step that takes the run to `images` images."""
        half_life = min(self.half_life_kimg * 1000, images * self.ramp)
        return 0.5 ** (batch_size / max(half_life, 1e-8))


AnyEMA = ConstantEMA | HalfLifeEMA


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
    ema: AnyEMA
    dial: Dial = Dial()
    """Between the usual target x (beta 0) and the posterior mean (beta 1)."""
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
        if self.recipe.solver == "heun" and not self.dial.is_mean:
            raise ConfigError(
                f"dial.beta {self.dial.beta}, solver heun: mean_next belongs to the Euler point of the mean: "
                "pass --solver euler (targets made for heun have what it needs), or leave out --dial.*"
            )
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
