"""What decides a training run. No torch here, so that `postmean train --help` is quick."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from postmean.base.errors import ConfigError
from postmean.contract.manifest import Solver
from postmean.contract.noise import AnyNoise, ECTNoise, ICTNoise
from postmean.contract.process import AnyProcess

Architecture = Literal["ddpm++", "ncsn++", "adm"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """A diffusers UNet2DModel of the kind of a paper's network."""

    architecture: Architecture
    channels: int
    """Base width, multiplied by channel_mult at each resolution."""
    channel_mult: tuple[int, ...]
    layers_per_block: int
    """Residual layers a resolution on the way down, one more on the way up."""
    attention_resolutions: tuple[int, ...]
    """Image sides at which there is self-attention."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.channels < 4 or self.layers_per_block < 1 or not self.channel_mult or min(self.channel_mult) < 1:
            raise ConfigError(
                f"network: expected channels >= 4, layers_per_block >= 1 and positive channel_mult, got "
                f"{self.channels}, {self.layers_per_block}, {self.channel_mult}"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"network.dropout: expected 0 <= dropout < 1, got {self.dropout}")


@dataclass(frozen=True, kw_only=True)
class EDMPreconditioning:
    """Karras et al. 2022, Table 1: D = c_skip z + c_out F(c_in z, ln(sigma) / 4)."""

    kind: ClassVar[str] = "edm"
    time_conditioning: ClassVar[str] = "0.25 ln sigma"
    sigma_data: float = 0.5


@dataclass(frozen=True, kw_only=True)
class CMPreconditioning:
    """Song et al. 2023, App. C: shifted by sigma_min so that f(x, sigma_min) = x; time 250 ln sigma."""

    kind: ClassVar[str] = "cm"
    time_conditioning: ClassVar[str] = "250 ln sigma"
    sigma_data: float = 0.5
    sigma_min: float = 0.002


AnyPreconditioning = EDMPreconditioning | CMPreconditioning


@dataclass(frozen=True, kw_only=True)
class EDMLoss:
    """Karras et al. 2022, Eq. 2 with the posterior mean in place of x; its weight is that of Table 1."""

    kind: ClassVar[str] = "edm"


@dataclass(frozen=True, kw_only=True)
class ICTLoss:
    """Song & Dhariwal 2024: pseudo-Huber distance to the teacher, weight 1 / (sigma - sigma_next)."""

    kind: ClassVar[str] = "ict"
    huber: float = 0.00054
    """c / sqrt(D) of the pseudo-Huber distance sqrt(|.|^2 + c^2) - c."""


@dataclass(frozen=True, kw_only=True)
class ECTLoss:
    """Geng et al. 2024."""

    kind: ClassVar[str] = "ect"
    c: float = 0.0
    """Of the distance sqrt(|.|^2 + c^2) - c, for the whole image."""
    weight: Literal["interval", "edm"] = "interval"
    """interval: 1 / (sigma - sigma_next); edm: (sigma^2 + sigma_data^2) / (sigma sigma_data)^2."""


AnyLoss = EDMLoss | ICTLoss | ECTLoss


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Adam or RAdam at a constant rate after a linear warm-up."""

    name: Literal["adam", "radam"]
    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    warmup_kimg: float = 0.0
    """Thousands of images over which the rate rises from 0."""
    clip_norm: float | None = None
    """Largest norm of the gradient; None: no clipping."""

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.warmup_kimg < 0 or (self.clip_norm is not None and self.clip_norm <= 0):
            raise ConfigError(
                f"optimiser: expected lr > 0, warmup_kimg >= 0, clip_norm > 0, got "
                f"{self.lr}, {self.warmup_kimg}, {self.clip_norm}"
            )


@dataclass(frozen=True, kw_only=True)
class ConstantEMA:
    """Average of the weights with one decay a step."""

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
    """Karras et al. 2022: a half-life in images, at most `ramp` of the images seen so far."""

    kind: ClassVar[str] = "half-life"
    half_life_kimg: float
    ramp: float = 0.05

    def __post_init__(self) -> None:
        if self.half_life_kimg <= 0 or self.ramp <= 0:
            raise ConfigError(f"ema: half_life_kimg {self.half_life_kimg} and ramp {self.ramp} must be positive")

    def decay_at(self, images: int, batch_size: int) -> float:
        """Decay of the step that takes the run to `images` images."""
        half_life = min(self.half_life_kimg * 1000, images * self.ramp)
        return 0.5 ** (batch_size / max(half_life, 1e-8))


AnyEMA = ConstantEMA | HalfLifeEMA


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """What targets must have been made for to be of use to a trainer."""

    process: AnyProcess
    noise: AnyNoise
    flips: bool
    conditional: bool
    solver: Solver


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A recipe. Everything but `FREE_FIELDS` decides the weights that come out."""

    process: AnyProcess
    noise: AnyNoise
    solver: Solver
    """Of the teacher point; heun needs targets generated with it."""
    flips: bool
    conditional: bool
    batch_size: int
    """Tuples a step over all ranks."""
    steps: int
    network: NetworkConfig
    preconditioning: AnyPreconditioning
    loss: AnyLoss
    optimiser: OptimiserConfig
    ema: AnyEMA
    seed: int = 0
    """Of the initial weights and of dropout; the tuples have the seed of their run."""
    precision: Literal["fp32", "bf16"] = "fp32"
    micro_batch: int | None = None
    """Most tuples a rank takes through the network at once; None: its whole share of the batch."""
    log_every: int = 50
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints."""
    keep_checkpoints: int = 2
    """Checkpoints kept, the newest ones."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "log_every", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ConfigError(f"micro_batch: expected at least 1, got {self.micro_batch}")
        consistency = not isinstance(self.loss, EDMLoss)
        if consistency != isinstance(self.noise, ICTNoise | ECTNoise):
            raise ConfigError(
                f"loss {self.loss.kind} does not go with noise {self.noise.kind}: "
                "consistency losses (ict, ect) need a sigma_next, so noise ict or ect, and edm has no use for one"
            )
        if isinstance(self.loss, ICTLoss) and not isinstance(self.preconditioning, CMPreconditioning):
            raise ConfigError("loss ict needs preconditioning cm: f(x, sigma_min) = x must hold")
        if isinstance(self.noise, ICTNoise):
            if self.noise.batch_size != self.batch_size:
                raise ConfigError(
                    f"batch_size {self.batch_size}, noise.batch_size {self.noise.batch_size}: the curriculum counts "
                    "steps of noise.batch_size tuples, so pass the same value for both (and generate with it)"
                )
            boundary = getattr(self.preconditioning, "sigma_min", None)
            if boundary is not None and boundary != self.noise.sigma_min:
                raise ConfigError(
                    f"noise.sigma_min {self.noise.sigma_min}, preconditioning.sigma_min {boundary}: pass one value"
                )

    @property
    def target_settings(self) -> TargetSettings:
        """What the targets must have been made for."""
        return TargetSettings(
            process=self.process,
            noise=self.noise,
            flips=self.flips,
            conditional=self.conditional,
            solver=self.solver,
        )


FREE_FIELDS = frozenset({"steps", "log_every", "checkpoint_every", "keep_checkpoints"})
"""Fields that may change when a run is resumed."""
