"""Checks that targets fit the trainer: each disagreement is an error that names the field and the remedy."""

from typing import Any

import numpy as np

from postmean.base.errors import ConfigError, MismatchError
from postmean.base.serialise import differences, to_dict
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.plan import Plan
from postmean.contract.recipe import TargetRecipe


class TooFewTargets(MismatchError):
    """The targets are the right ones, but not all that the steps need are there."""


def check_agreement(
    manifest: Manifest, store: ImageStore, batch_size: int, recipe: TargetRecipe | None, where: str
) -> None:
    """Raise MismatchError unless the run was made from this store, with these random numbers, and suits the recipe."""
    manifest.check_store(store.header.fingerprint, where)
    manifest.check_tuples(where)
    if recipe is not None:
        differing = _differing(recipe, manifest.recipe)
        if differing:
            listed = "; ".join(f"{path} is {b!r} in the targets, {a!r} in the trainer" for path, a, b in differing)
            raise MismatchError(f"{where}: {listed}: pass the settings of the targets, or generate again with these")
    counted = (recipe or manifest.recipe).noise.steps_of
    if counted is not None and counted != batch_size:
        raise MismatchError(
            f"{where}: noise.batch_size {counted}, the trainer's batch_size is {batch_size}: "
            f"the curriculum counts steps of that size: pass --batch-size {counted} or generate "
            f"again with --noise.batch-size {batch_size}"
        )


def _differing(ours: TargetRecipe, theirs: TargetRecipe) -> list[tuple[str, Any, Any]]:
    """Differences that matter to a trainer with the recipe `ours`: (field path, our value, their value).

    Euler needs the mean at z alone. It does not need the same sigma_next, which the trainer computes, and the records
    of a Heun run have the mean too, those of sub-steps not. Means are of the canonical z: the process matters only
    where it decides sigma.
    """
    as_made = ours.solver != "euler" or bool(theirs.substeps)
    a, b = [
        {
            "process": to_dict(recipe.process) if ours.noise.uses_process or theirs.noise.uses_process else None,
            "noise": to_dict(recipe.noise if as_made else recipe.noise.sigma_alone),
            "solver": recipe.solver if as_made else "euler",
            "flips": recipe.flips,
            "conditional": recipe.conditional,
        }
        for recipe in (ours, theirs)
    ]
    return differences(a, b)


def check_enough(
    manifest: Manifest, plan: Plan, ready: np.ndarray | None, start: int, batch_size: int, steps: int | None, where: str
) -> int:
    """Check that the targets of all steps are there; returns the number of steps.

    Args:
        ready: which shards are committed, bool [shards]; None if they are waited for.
        start: first tuple.
        steps: batches from `start` on; None for as many as the run has.
    Raises:
        ConfigError: start is not the beginning of a batch.
        TooFewTargets: the run has too few tuples, or some of their shards are not ready.
    """
    if start < 0 or start % batch_size:
        raise ConfigError(f"start_tuple {start}: expected a multiple of the batch size {batch_size}")
    if steps is None:
        steps = max(0, manifest.tuples - start) // batch_size
    stop = start + steps * batch_size
    if stop > manifest.tuples:
        raise TooFewTargets(
            f"{where}: tuples {manifest.tuples}, {stop // batch_size} steps of {batch_size} need {stop}: "
            f"generate more: `postmean generate` with --tuples {stop}, or train for "
            f"{manifest.tuples // batch_size} steps"
        )
    shards = plan.shards_of(start, stop)
    missing = (
        np.empty(0, np.int64) if ready is None else shards.start + np.flatnonzero(~ready[shards.start : shards.stop])
    )
    if len(missing):
        until = int(plan.first_tuple[missing[0]])
        raise TooFewTargets(
            f"{where}: {len(missing)} of the shards for tuples {start}..{stop - 1} are not committed, the first is "
            f"{missing[0]:06d} at tuple {until}: generate more: run the same `postmean generate` again to finish, "
            f"train for {until // batch_size} steps, or pass --follow-seconds to wait for them"
        )
    return steps


def check_kept(plan: Plan, deleted: int, start: int, where: str) -> None:
    """Raise MismatchError if the shard of tuple `start` is one of the first `deleted` shards, which were deleted."""
    if plan.shard_of(start) < deleted:
        kept = int(plan.last_tuple[deleted - 1]) + 1
        raise MismatchError(
            f"{where}: tuple {start} is in a shard that was deleted when all trainers had consumed it, tuples from "
            f"{kept} on are there: generate again into another --out, or begin at a later checkpoint"
        )
