"""A fleet for the duration of a run: Ray, metrics, and actors with given threads and device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from postmean.base.cores import usable_cores
from postmean.base.device import usable_gpus
from postmean.base.environment import cluster_address
from postmean.base.errors import ConfigError
from postmean.fleet.backlog import Backlog
from postmean.fleet.calls import Calls
from postmean.fleet.dispatcher import Dispatcher
from postmean.fleet.listener import Listener
from postmean.fleet.outcome import Outcome
from postmean.fleet.ray_session import node_resources, ray_session
from postmean.fleet.room import actors_that_fit
from postmean.fleet.settings import ActorSettings, FleetSettings


@dataclass(frozen=True)
class RunTotals:
    """What the metrics of a run say of it as a whole."""

    out: str
    """The run's storage URL; its last part names the run."""
    tuples: int
    records: int


@dataclass(frozen=True)
class Fleet:
    """An open fleet; its actors start when it gets a backlog."""

    calls: Calls
    settings: FleetSettings
    actors: int
    metrics: Listener | None
    shards_at_a_time: int

    def make(self, backlog: Backlog, listener: Listener) -> Outcome:
        """Make the backlog's shards and tell the listener what becomes of them."""
        listeners = (listener,) if self.metrics is None else (listener, self.metrics)
        return Dispatcher(self.calls, self.settings, self.actors, backlog, listeners, self.shards_at_a_time).run()


def fleet_size(actors: int | None, device: str, threads_per_actor: int) -> int:
    """Actors to start: `actors` if given, else one per GPU, or as many as the cores hold that this process may use.

    Raises:
        ConfigError: an embedded Ray would have more actors than GPUs.
    """
    if device == "cpu":
        return actors or max(1, usable_cores() // threads_per_actor)
    gpus = usable_gpus()
    if actors is not None and actors > gpus and not cluster_address():
        raise ConfigError(
            f"--actors {actors}: each takes a GPU, and this process may use {gpus} (see CUDA_VISIBLE_DEVICES): "
            f"pass --actors {max(1, gpus)} or leave it out"
        )
    return actors or max(1, gpus)


@contextmanager
def open_fleet(
    settings: FleetSettings,
    has: ActorSettings,
    actor: type,
    arguments: tuple[Any, ...],
    shards: int,
    totals: RunTotals | None = None,
    memory: int = 0,
) -> Iterator[Fleet]:
    """Connect to the cluster or start Ray.

    Args:
        has: threads and device of an actor; the device is not auto.
        actor: class of the actors.
        arguments: of the constructor of `actor`.
        shards: number of shards, or other units, to make; there are no more actors than that.
        totals: for the metrics of a run; None: there are none.
        memory: bytes that an actor asks of its node of a cluster.
    Raises:
        ConfigError: no node of the cluster has that much.
    """
    threads, gpus = has.threads_per_actor, 1 if has.device == "cuda" else 0
    at_a_time = settings.at_a_time(has.device)
    actors = min(fleet_size(settings.actors, has.device, threads), shards)
    with ray_session(actors * threads, actors * gpus) as ray_thread:
        # both import ray: its environment is set only now
        from postmean.fleet.metrics import DriverMetrics
        from postmean.fleet.ray_calls import RayCalls

        memory = memory if cluster_address() else 0
        if cluster_address():
            fit = actors_that_fit(node_resources(ray_thread), threads, gpus, memory)
            actors = min(fit if settings.actors is None else actors, shards)
        options = {
            "num_cpus": threads,
            "num_gpus": gpus,
            "memory": memory or None,
            "max_restarts": 0,  # the dispatcher replaces actors itself: it knows what they were doing
            "max_task_retries": 0,
            "max_concurrency": at_a_time + 1 if at_a_time > 1 else 1,  # one more answers pings
        }
        metrics = DriverMetrics(totals.out, totals.tuples, totals.records) if totals else None
        yield Fleet(RayCalls(ray_thread, actor, arguments, options), settings, actors, metrics, at_a_time)
