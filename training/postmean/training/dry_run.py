"""`dry_run`: what a training would take, by the checks of a real start and a few steps that are thrown away."""

import copy
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from postmean.base.progress import byte_size, duration
from postmean.base.serialise import to_dict
from postmean.contract.image_store import ImageStore
from postmean.shards.run_reader import RunReader
from postmean.storage.open import open_reader
from postmean.training.checkpoint import complete_checkpoints, step_of
from postmean.training.config import TrainConfig
from postmean.training.distributed import World
from postmean.training.economy import tf32
from postmean.training.learner import Learner
from postmean.training.loop import checked
from postmean.training.metrics import LossSums, peak_memory
from postmean.training.model.ema.averaged_network import Averages
from postmean.training.model.losses import Loss
from postmean.training.model.preconditioning import Denoiser
from postmean.training.optimiser import Optimiser
from postmean.training.run_config import TrainRunConfig
from postmean.training.schedules import Schedule
from postmean.training.stream.agreement import TooFewTargets
from postmean.training.training_run import Paths, TrainingRun

if TYPE_CHECKING:
    from postmean.training.model.networks.own import NetworkLike

_STEPS = 6
"""Real steps; the first is not timed, as it also starts the device."""
_SECONDS = 30.0
"""No further step is taken after this time."""


@dataclass(frozen=True, kw_only=True)
class DryRunReport:
    """What a training would take."""

    recipe: dict[str, Any]
    """The resolved recipe, as config.json would hold it."""
    parameters: int
    """Weights of the network, and of what the loss learns."""
    steps: int
    batch_size: int
    images: int
    """Images of all steps."""
    first_step: int
    """Steps already done in `out`, or by the checkpoint of --from."""
    state_bytes: int
    """Weights, gradients, optimiser and averages on each device; activations come on top."""
    peak_memory_bytes: int | None
    """Measured over the real steps: of the tensors of the GPU, or of the process; None without steps."""
    device: str
    targets_suffice: bool
    targets: str
    """What is there, or what is missing and how to get it."""
    seconds_per_step: float | None
    """Measured, with the waiting for targets; None without targets."""
    seconds: float | None
    """Of the steps that are left, without grids, scores and checkpoints; None where it is unknown."""

    def text(self) -> str:
        """The report in lines."""
        recipe = self.recipe
        parts = ("loss", "preconditioning", "optimiser", "schedule", "ema", "network")
        lines = [(name, _short(recipe[name])) for name in parts]
        lines += [
            ("noise", _short(recipe["recipe"]["noise"])),
            ("precision", recipe["precision"]),
            ("parameters", f"{self.parameters:,}"),
            ("steps", f"{self.steps:,} of {self.batch_size:,}: {self.images:,} images; {self.first_step:,} steps done"),
            ("memory", f"{byte_size(self.state_bytes)} for weights, gradients, optimiser and averages, {self._peak()}"),
            ("targets", self.targets),
            ("time", self._time()),
        ]
        return "\n".join(f"{name:15}{value}" for name, value in lines) + "\nnothing was written"

    def _peak(self) -> str:
        if self.peak_memory_bytes is None:
            return "and the activations"
        return f"at most {byte_size(self.peak_memory_bytes)} in all on {self.device}"

    def _time(self) -> str:
        if self.seconds is None or self.seconds_per_step is None:
            return "unknown: no step could be measured" if self.first_step < self.steps else "none: all steps are done"
        return f"{duration(self.seconds)}: {self.seconds_per_step:.3g} s a step on {self.device}"


def dry_run(
    config: TrainRunConfig,
    *,
    loss: Loss | None = None,
    network: "NetworkLike | None" = None,
    optimiser: Optimiser | None = None,
    schedule: Schedule | None = None,
) -> DryRunReport:
    """What `train` with these arguments would take; nothing is written.

    Where targets are missing, or too few for all steps, the report says so. Targets are not waited for.

    Raises:
        ConfigError, MismatchError: those of `train`, but for targets that are not there yet.
    """
    if isinstance(network, torch.nn.Module):
        network = copy.deepcopy(network)  # the steps would train it
    config, paths = checked(config, loss, network, optimiser, schedule)
    recipe = config.training
    with World.join(config.device) as world:
        store = ImageStore.open(config.store)
        parameters, state_bytes = _sizes(recipe, store)
        run, targets = _opened(recipe, paths, store, world)
        first_step = run.first_step if run else _steps_done(paths)
        with tf32(recipe.tf32):
            each = _seconds_per_step(run, recipe.steps) if run else None
        return DryRunReport(
            recipe=to_dict(recipe),
            parameters=parameters,
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            images=recipe.steps * recipe.batch_size,
            first_step=first_step,
            state_bytes=state_bytes,
            peak_memory_bytes=None if each is None else peak_memory(world.device),
            device=str(world.device),
            targets_suffice=not targets,
            targets=targets or f"{paths.targets}: all that the steps need",
            seconds_per_step=each,
            seconds=None if each is None else each * max(0, recipe.steps - first_step),
        )


def _opened(recipe: TrainConfig, paths: Paths, store: ImageStore, world: World) -> tuple[TrainingRun | None, str]:
    """The run, for fewer steps if the targets are too few, and what is wrong with the targets."""
    if not RunReader(open_reader(paths.targets)).has_manifest():
        return None, f"{paths.targets}: no run there: make one with `postmean generate`"
    try:
        return TrainingRun.open(recipe, paths, store, world, 0.0), ""
    except TooFewTargets as error:
        said = str(error)
    try:
        fewer = replace(recipe, steps=_steps_done(paths) + _STEPS)
        return TrainingRun.open(fewer, paths, store, world, 0.0), said
    except TooFewTargets:
        return None, said


def _steps_done(paths: Paths) -> int:
    checkpoints = complete_checkpoints(paths.out)
    return step_of(checkpoints[-1]) if checkpoints else 0


def _seconds_per_step(run: TrainingRun, steps: int) -> float | None:
    """Mean time of a few real steps; None where none is left."""
    with run.stream:
        if run.first_step >= min(run.config.steps, steps):
            return None
        learner, sums = Learner(run), LossSums(run.world.device)
        times = [time.perf_counter()]
        for batch in run.stream.batches():
            learner.learn(batch, sums)
            sums.take().cpu()  # waits for the device
            times.append(time.perf_counter())
            if run.world.agree(len(times) > _STEPS or times[-1] - times[0] > _SECONDS)[0]:
                break
    timed = times[1:] if len(times) > 2 else times
    return (timed[-1] - timed[0]) / (len(timed) - 1)


def _sizes(recipe: TrainConfig, store: ImageStore) -> tuple[int, int]:
    """Parameters, and bytes of weights, gradients, optimiser and averages. Takes no memory: all is on the meta device.

    The optimiser says itself what it keeps, by a step on gradients without values.
    """
    with torch.device("meta"):
        network = recipe.network.build(store.image_shape, store.classes if recipe.recipe.conditional else 0)
    denoiser = Denoiser(copy.deepcopy(network), recipe.preconditioning, recipe.loss.learned()).to("meta")
    averages = Averages(denoiser.network, recipe.emas, recipe.loss.teacher(recipe.recipe.noise))
    weights = [weight for weight in denoiser.parameters() if weight.requires_grad]
    optimiser = recipe.optimiser.make(weights)
    for weight in weights:
        weight.grad = torch.empty_like(weight)
    with suppress(RuntimeError):  # an optimiser of the user's own may need values: what it keeps is not counted then
        optimiser.step()
    kept = [*denoiser.parameters(), *weights, *averages.parameters()]
    kept += [tensor for state in optimiser.state.values() for tensor in state.values()]
    count = sum(weight.numel() for weight in denoiser.parameters())
    return count, sum(tensor.numel() * tensor.element_size() for tensor in kept)


def _short(part: dict[str, Any]) -> str:
    """A part of the recipe on one line, such as `edm: weight edm`."""
    rest = ", ".join(f"{name} {value}" for name, value in part.items() if name != "kind" and value is not None)
    return ": ".join(filter(None, [part.get("kind", ""), rest]))
