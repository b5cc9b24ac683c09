"""The inputs of one call of `train`: opened, checked, and the same in every rank."""

from dataclasses import dataclass
from pathlib import Path

from postmean.base.errors import ConfigError
from postmean.contract.image_store import ImageStore
from postmean.training.checkpoint import complete_checkpoints, remove_partial, step_of
from postmean.training.config import TrainConfig
from postmean.training.distributed import World
from postmean.training.resume import check_same_run, identity_of, trainer_name, write_config
from postmean.training.stream.stream import TargetStream

_SHARE_OUT = "--out must be one folder that all hosts share: every rank goes on from the checkpoints in it"


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A recipe, its targets, the output folder, and the checkpoint to resume from."""

    config: TrainConfig
    store: ImageStore
    out: Path
    world: World
    checkpoint: Path | None
    """The newest one in `out` when the run was opened; None for a new run."""
    trainer: str
    """Name of this trainer in a followed run."""
    stream: TargetStream

    @classmethod
    def open(
        cls, config: TrainConfig, targets: str, store: ImageStore, out: Path, world: World, follow_seconds: float
    ) -> "TrainingRun":
        """Open the targets at the step of the newest checkpoint in `out`; changes nothing in `out`.

        Raises:
            ConfigError: the store has no labels for conditional training.
            MismatchError: targets, store, config and the run in `out` do not agree, or the ranks do not.
        """
        if config.recipe.conditional and not store.classes:
            raise ConfigError(f"{store.path}: conditional training needs labels, the store has none")
        checkpoints = complete_checkpoints(out)
        checkpoint = checkpoints[-1] if checkpoints else None
        step = step_of(checkpoint) if checkpoint else 0
        # checked first: for a rank at a wrong step the targets may be deleted, and that error would mislead
        world.check_same(str(out), _SHARE_OUT, step=step)
        trainer = trainer_name(out)
        stream = TargetStream.open(
            targets,
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
        stream.never_before(step_of(checkpoints[0]) * config.batch_size if checkpoints else 0)
        targets_are = identity_of(stream.manifest.to_dict())
        same = dict(batch_size=config.batch_size, batches=len(stream), targets=targets_are)
        world.check_same(targets, "start every rank with the same command and the same --targets", **same)
        check_same_run(out, config, stream.manifest)
        return cls(
            config=config, store=store, out=out, world=world, checkpoint=checkpoint, trainer=trainer, stream=stream
        )

    @property
    def first_step(self) -> int:
        """Steps done before this call."""
        return step_of(self.checkpoint) if self.checkpoint else 0

    @property
    def classes(self) -> int:
        """Classes of the network; 0 for an unconditional one."""
        return self.store.classes if self.config.recipe.conditional else 0

    def begin(self, init: str) -> None:
        """Once every rank has read `out`: write config.json there and remove partial checkpoints of killed runs."""
        self.world.wait()
        if self.world.leads:
            remove_partial(self.out)
            paths = dict(targets=self.stream.where, store=str(self.store.path), init=init)
            write_config(self.out, self.config, self.stream.manifest, self.trainer, **paths)
