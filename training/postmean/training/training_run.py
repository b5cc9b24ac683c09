"""The inputs of one call of `train`: opened, checked, and the same in every rank."""

from dataclasses import dataclass
from pathlib import Path

from postmean.base.errors import ConfigError
from postmean.base.log import tell
from postmean.base.serialise import to_dict
from postmean.contract.image_store import ImageStore
from postmean.training.checkpoint import complete_checkpoints, newest_whole, remove_partial, set_aside_after, step_of
from postmean.training.config import TrainConfig
from postmean.training.distributed import World
from postmean.training.fork import check_origin, first_step, origin_of
from postmean.training.resume import Begun, check_same_run, identity_of, trainer_name, write_config
from postmean.training.stream.stream import TargetStream

_SHARE_OUT = "--out must be one folder that all hosts share: every rank goes on from the checkpoints in it"
_SAME_COMMAND = "start every rank with the same command and the same --targets"


@dataclass(frozen=True, kw_only=True)
class Paths:
    """What a call of `train` reads and writes."""

    targets: str
    """Folder or URL of a run of `postmean generate`."""
    out: Path
    """Folder of the training run."""
    init: str = ""
    """Checkpoint or run whose averaged weights a new run begins with; empty: random weights."""
    start_from: str = ""
    """RUN@STEP or checkpoint folder that a new run goes on from; empty: tuple 0."""

    def __post_init__(self) -> None:
        if self.init and self.start_from:
            raise ConfigError(
                "--init, --from: pass one of them: --from has weights, optimiser and place, --init weights"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A recipe, its targets, the output folder, and the checkpoint to go on from."""

    config: TrainConfig
    store: ImageStore
    out: Path
    world: World
    checkpoint: Path | None
    """The newest whole one in `out` when the run was opened, or the one of --from; None for a new run."""
    first_step: int
    """Steps done before this call."""
    begun: Begun
    trainer: str
    """Name of this trainer in a followed run."""
    stream: TargetStream

    @classmethod
    def open(
        cls, config: TrainConfig, paths: Paths, store: ImageStore, world: World, follow_seconds: float
    ) -> "TrainingRun":
        """Open the targets at the step of the newest whole checkpoint in `out`; changes nothing in `out`.

        Raises:
            ConfigError: the store has no labels for conditional training, or there is no such checkpoint.
            MismatchError: targets, store, config and the run in `out` do not agree, or the ranks do not.
            DataError: every checkpoint in `out` is damaged, or the one of --from.
        """
        out = paths.out
        if config.recipe.conditional and not store.classes:
            raise ConfigError(f"{store.where}: conditional training needs labels, the store has none")
        checkpoints = complete_checkpoints(out)
        # checked first: for a rank at a wrong step the targets may be deleted, and that error would mislead
        world.check_same(str(out), _SHARE_OUT, step=step_of(checkpoints[-1]) if checkpoints else 0)
        whole = world.led(lambda: str(newest_whole(out) or ""))
        own = Path(whole) if whole else None
        origin = origin_of(paths.start_from) if paths.start_from else None
        checkpoint, step = own, step_of(own) if own else 0
        if origin and not own:
            check_origin(origin, out)
            checkpoint, step = origin, first_step(origin, config.batch_size, config.steps)
        begun = Begun(init=_absolute(paths.init), origin=_absolute(origin), ranks=world.size)
        trainer = trainer_name(out)
        stream = TargetStream.open(
            paths.targets,
            store,
            config.batch_size,
            start_tuple=step * config.batch_size,
            rank=world.rank,
            world_size=world.size,
            recipe=config.recipe,
            steps=max(0, config.steps - step),
            pin=world.device.type == "cuda",
            follow_seconds=follow_seconds,
            trainer=trainer if world.leads else "",
        )
        stream.never_before((step_of(checkpoints[0]) if own else step) * config.batch_size)
        targets_are = identity_of(stream.manifest.to_dict())
        same = dict(step=step, batches=len(stream), targets=targets_are, config=to_dict(config))
        world.check_same(paths.targets, _SAME_COMMAND, **same)
        world.led(lambda: check_same_run(out, config, stream.manifest, begun, own))
        return cls(
            config=config,
            store=store,
            out=out,
            world=world,
            checkpoint=checkpoint,
            first_step=step,
            begun=begun,
            trainer=trainer,
            stream=stream,
        )

    @property
    def classes(self) -> int:
        """Classes of the network; 0 for an unconditional one."""
        return self.store.classes if self.config.recipe.conditional else 0

    @property
    def origin(self) -> str:
        """The checkpoint of another run that this call begins from; empty for a new or a resumed run."""
        return self.begun.origin if self.checkpoint and not self.checkpoint.is_relative_to(self.out) else ""

    def begin(self) -> None:
        """Once every rank has read `out`: write config.json there, and remove what killed runs left."""
        self.world.led(self._begin)

    def _begin(self) -> None:
        remove_partial(self.out)
        set_aside_after(self.out, self.first_step)
        paths = dict(targets=self.stream.where, store=self.store.where)
        write_config(self.out, self.config, self.stream.manifest, self.begun, self.trainer, **paths)
        if self.origin:
            tell(
                "forked",
                f"goes on from {self.origin}, at step {self.first_step:,}",
                origin=self.origin,
                step=self.first_step,
            )
        elif self.checkpoint:
            tell("resumed", f"resumed from step {self.first_step:,}", step=self.first_step)


def _absolute(path: str | Path | None) -> str:
    return str(Path(path).resolve()) if path else ""
