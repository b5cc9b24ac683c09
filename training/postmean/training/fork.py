"""`--from RUN@STEP`: a new run that goes on from any checkpoint, with other settings.

Weights, their average, the optimiser's state and the place in the stream are the checkpoint's; all settings are the new
run's. So a run that diverged goes on from before it did, at a lower rate.
"""

from pathlib import Path

from postmean.base.errors import ConfigError, DataError, MismatchError
from postmean.base.paths import local_path
from postmean.training.checkpoint import FOLDER, checkpoint_of, complete_checkpoints, read_place, step_of
from postmean.training.checkpoint_files import check_files


def origin_of(text: str) -> Path:
    """The checkpoint that RUN@STEP names, or the folder of a checkpoint itself; it need not exist any more."""
    run, at, step = text.rpartition("@")
    if at and step.isdecimal() and not local_path(text).exists():
        return checkpoint_of(local_path(run), int(step))
    return local_path(text)


def check_origin(origin: Path, out: Path) -> None:
    """Check that a new run can begin from the checkpoint.

    Args:
        out: folder of the new run.
    Raises:
        ConfigError: there is no such checkpoint, or it is one of `out` itself, or has the averaged weights alone.
        DataError: it is damaged.
    """
    if not (origin / "denoiser.json").is_file():
        run = origin.parent.parent if origin.parent.name == FOLDER else origin
        raise ConfigError(f"--from: {origin} is no checkpoint: pass RUN@STEP, or the folder of one: {_those_of(run)}")
    if origin.resolve().is_relative_to(out.resolve()):
        raise ConfigError(f"--from: {origin} is a checkpoint of --out {out} itself: pass another --out")
    try:
        check_files(origin)
    except DataError as error:
        raise DataError(f"--from: {error}") from error
    if not (origin / "state.safetensors").is_file():
        raise ConfigError(
            f"--from: {origin} has the averaged weights alone, as imported weights and light models do, and no place "
            f"in the targets to go on from: begin with --init {origin}"
        )


def first_step(origin: Path, batch_size: int, steps: int) -> int:
    """Step of a run of this batch size that is at the checkpoint's place in the stream.

    Raises:
        MismatchError: no step begins there, or the run has no step after it.
    """
    tuple_id = read_place(origin)["next_tuple"]
    if tuple_id % batch_size:
        raise MismatchError(
            f"--from {origin}: it is at tuple {tuple_id}, where no batch of {batch_size} begins: "
            "pass a --batch-size that divides this"
        )
    step = tuple_id // batch_size
    if step >= steps:
        raise MismatchError(f"--from {origin}: it is at step {step}, this run ends at {steps}: pass more --steps")
    return step


def _those_of(run: Path) -> str:
    steps = ", ".join(str(step_of(checkpoint)) for checkpoint in complete_checkpoints(run))
    return f"{run} has the steps {steps}" if steps else f"{run} has no checkpoints"
