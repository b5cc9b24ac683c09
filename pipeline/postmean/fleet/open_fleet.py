"""A fleet for the duration of a run: Ray, and a dispatcher that hires actors of the size that the manifest says."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from postmean.base.environment import cluster_address
from postmean.contract.manifest import Manifest
from postmean.fleet.ray_session import actors_that_fit, ray_session
from postmean.fleet.settings import FleetSettings

if TYPE_CHECKING:
    from postmean.fleet.dispatcher import Dispatcher


def fleet_size(actors: int | None, device: str, threads_per_actor: int) -> int:
    """Actors to start on this machine: as asked, else one a GPU, or as many as the CPU cores hold."""
    if actors is not None:
        return actors
    if device == "cuda":
        import torch

        return max(1, torch.cuda.device_count())
    return max(1, (os.cpu_count() or 1) // threads_per_actor)


@contextmanager
def fleet(
    config: FleetSettings, manifest: Manifest, shards: int, start_actor: Callable[[dict[str, Any]], Any]
) -> "Iterator[Dispatcher]":
    """Connect to the cluster or start Ray, and give the dispatcher.

    Args:
        shards: how many there are to make: no more actors than these.
        start_actor: starts one actor with these options of Ray and returns its handle.
    """
    gpus = 1 if manifest.device == "cuda" else 0
    actors = min(fleet_size(config.actors, manifest.device, manifest.threads_per_actor), shards)
    with ray_session(actors * manifest.threads_per_actor, actors * gpus):
        from postmean.fleet.dispatcher import Dispatcher  # imports ray, whose environment is set only now

        if cluster_address() and config.actors is None:
            actors = min(actors_that_fit(manifest.threads_per_actor, gpus), shards)
        options = {
            "num_cpus": manifest.threads_per_actor,
            "num_gpus": gpus,
            "max_restarts": 0,  # the dispatcher replaces actors itself: it knows what they were doing
            "max_task_retries": 0,
        }
        yield Dispatcher(
            lambda: start_actor(options),
            actors=actors,
            min_actors=config.min_actors,
            idle_seconds=config.idle_seconds,
            attempts=config.attempts,
            shard_seconds=config.shard_seconds,
            start_seconds=config.start_seconds,
        )
