"""Settings of a training run. No torch here, so that `postmean train --help` is quick."""

from dataclasses import dataclass
from typing import Literal

from postmean.base.checks import check_finite_positive
from postmean.base.errors import ConfigError
from postmean.contract.recipe import TargetRecipe
from postmean.training.dial import Dial
from postmean.training.model.ema import AnyEMA, PowerEMA
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
    """Average of the weights that a checkpoint is for."""
    more_emas: tuple[AnyEMA, ...] = ()
    """Further averages, which checkpoints keep too."""
    snapshot_every: int = 0
    """Steps between two snapshots of the power-function averages, for `postmean sample --ema`; 0: none."""
    dial: Dial = Dial()
    """Between the usual target x (beta 0) and the posterior mean (beta 1)."""
    label_dropout: float = 0.0
    """Share of the labels replaced by none, for classifier-free guidance, such as 0.1. The target of such a tuple is x,
    which is unbiased for the unconditional mean and noisier."""
    seed: int = 0
    """Seed of the initial weights and of dropout; the tuples have the seed of their run."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numbers that the network computes with; weights and losses are fp32."""
    loss_scale: float = 100.0
    """With fp16: factor of the loss while gradients are computed, so that small ones do not vanish."""
    tf32: bool = False
    """Let a GPU multiply fp32 matrices in TF32; torch lets convolutions anyway."""
    channels_last: bool = False
    """Keep the network's features pixel by pixel, which GPUs convolve faster in 16 bits."""
    gradient_checkpointing: bool = False
    """Compute the features of residual blocks again in the backward pass: less memory, a third more work."""
    compile: bool = False
    """Let torch.compile make the network faster, which takes a minute or more at the start."""
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
        check_finite_positive("train", loss_scale=self.loss_scale)
        if self.compile and self.gradient_checkpointing:
            raise ConfigError(
                "compile, gradient_checkpointing: compiled blocks that are computed again draw other dropout masks, "
                "so their gradients would be wrong: leave one of them out, or pass --micro-batch to save memory"
            )
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed: expected 0 <= seed < 2^63, got {self.seed}")
        if self.recipe.solver == "heun" and not self.dial.is_mean:
            raise ConfigError(
                f"dial.beta {self.dial.beta}, solver heun: mean_next belongs to the Euler point of the mean: "
                "pass --solver euler (targets made for heun have what it needs), or leave out --dial.*"
            )
        self._check_substeps()
        self._check_averages()
        self._check_label_dropout()
        self._check_loss()
        self._check_noise()

    def _check_substeps(self) -> None:
        if not self.recipe.substeps:
            return
        where = f"solver {self.recipe.solver} has averages of means over the way to a teacher point as targets"
        if self.loss.needs_mean or self.loss.uses_jvp:
            raise ConfigError(
                f"{where}, and loss {self.loss.kind} needs the mean at z: pass another --loss or --solver"
            )
        if not self.dial.is_mean or self.label_dropout:
            raise ConfigError(f"{where}, which no single image stands for: leave out --dial.* and --label-dropout")

    def _check_averages(self) -> None:
        if self.snapshot_every < 0:
            raise ConfigError(f"snapshot_every: expected 0 or more, got {self.snapshot_every}")
        if len(set(self.emas)) < len(self.emas):
            raise ConfigError(f"ema, more_emas: two are the same: {self.emas}")
        if self.snapshot_every and not self.power_emas:
            raise ConfigError("snapshot_every: there is nothing to keep: pass --ema power, or power in more_emas")

    def _check_label_dropout(self) -> None:
        if not 0 <= self.label_dropout < 1:
            raise ConfigError(f"label_dropout: expected 0 <= label_dropout < 1, got {self.label_dropout}")
        if self.label_dropout and (not self.recipe.conditional or self.loss.needs_sigma_next):
            raise ConfigError(
                f"label_dropout {self.label_dropout}: it is for conditional denoisers, and this recipe is "
                f"{'a consistency model' if self.loss.needs_sigma_next else 'unconditional'}: leave it out"
            )

    def _check_loss(self) -> None:
        loss, noise, preconditioning = self.loss, self.recipe.noise, self.preconditioning
        distils = bool(self.recipe.substeps)  # a denoiser learns the average, whatever is at the teacher point
        if loss.needs_sigma_next != noise.has_teacher and not distils:
            raise ConfigError(
                f"loss {loss.kind} does not go with noise {noise.kind}: a loss with a teacher point or a second time "
                "needs the noise of its name, whose tuples have a sigma_next, and others have no use for one"
            )
        if loss.needs_mean and not self.dial.is_mean:
            raise ConfigError(
                f"loss {loss.kind} adds the posterior variance to the error of the mean: leave out --dial.*"
            )
        loss.teacher(noise)  # refuses a noise that it does not know
        if loss.needs_boundary and not isinstance(preconditioning, CMPreconditioning):
            raise ConfigError(f"loss {loss.kind} needs preconditioning cm: f(x, sigma_min) = x must hold")
        if loss.preconditionings and preconditioning.kind not in loss.preconditionings:
            wanted = " or ".join(loss.preconditionings)
            raise ConfigError(f"loss {loss.kind} needs preconditioning {wanted}, got {preconditioning.kind}")
        if loss.uses_jvp and self.gradient_checkpointing:
            raise ConfigError(
                f"loss {loss.kind} differentiates the network forwards: leave out --gradient-checkpointing, "
                "or pass --micro-batch to save memory"
            )
        if loss.needs_second_time and not getattr(self.network, "second_time", True):
            raise ConfigError(f"loss {loss.kind} needs a network with two times: pass --network.second-time")

    def _check_noise(self) -> None:
        noise = self.recipe.noise
        if noise.steps_of is not None and noise.steps_of != self.batch_size:
            raise ConfigError(
                f"batch_size {self.batch_size}, noise.batch_size {noise.steps_of}: the curriculum counts "
                "steps of noise.batch_size tuples, so pass the same value for both (and generate with it)"
            )
        lowest, boundary = (getattr(part, "sigma_min", None) for part in (noise, self.preconditioning))
        if lowest is not None and boundary is not None and lowest != boundary:
            raise ConfigError(f"noise.sigma_min {lowest}, preconditioning.sigma_min {boundary}: pass one value")

    @property
    def emas(self) -> tuple[AnyEMA, ...]:
        """All averages; the first is the one that a checkpoint is for."""
        return (self.ema, *self.more_emas)

    @property
    def power_emas(self) -> tuple[PowerEMA, ...]:
        """The averages that snapshots are kept of."""
        return tuple(ema for ema in self.emas if isinstance(ema, PowerEMA))


TOLD_FIELDS = frozenset(
    {"micro_batch", "precision", "loss_scale", "tf32", "channels_last", "gradient_checkpointing", "compile"}
)
"""Fields that may change when a run is resumed, and are told: they change roundings and dropout masks."""
FREE_FIELDS = TOLD_FIELDS | {"snapshot_every", "steps", "log_every", "checkpoint_every", "keep_checkpoints"}
"""Fields that may change when a run is resumed."""
