"""The dispatcher: hands shards to actors until each is committed or has failed for good.

Plain actor handles and `ray.wait`. An actor is placed (where and when the cluster has room), loads its replica, and
then takes shard after shard. A call that raises is tried again, at most `attempts` times; an actor that died or missed
its deadline is replaced, and its shard given to another. Actors without room wait for it and join the others when there
is some; one that finds no shard left is released. No fault of one shard stops the others, and none hangs.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayActorError, RayError, RayTaskError

from pipeline.contract.errors import PostmeanError
from pipeline.fleet.actor import ShardDone

_FAILURES_IN_A_ROW = 24
"""Failed attempts an actor, none in between that succeeded, after which the cause is taken to be everyone's: a full
disk, a damaged store. A run of a million shards must not try each of them."""
_LOST_ACTOR = 3  # failed attempts that a lost actor counts for: it takes seconds to replace, and its deadline to notice


@dataclass
class _Worker:
    handle: Any
    call: Any
    phase: Literal["placing", "loading", "idle", "estimating"] = "placing"
    deadline: float = math.inf
    shard: int | None = None


@dataclass
class Outcome:
    """What became of the shards."""

    done: list[int] = field(default_factory=list)
    """Shards that were committed, in order of their end"""
    failed: dict[int, str] = field(default_factory=dict)
    """Cause of the last attempt, by shard"""
    untried: int = 0
    """Shards left when too many others had failed in a row, or no actor started"""
    retries: int = 0
    waiting: int = 0
    """Shards that no actor has taken"""
    ready: int = 0
    """Actors that have loaded"""
    stopped_by: str | None = None
    """Why no actor could take a shard, where that ended the run"""


class Dispatcher:
    """Runs shards on a fleet.

    Args:
        make_actor: starts an actor and returns its handle. Its `placed()` returns at once, its `load()` when it is
            ready, and its `commit(shard)` gives a ShardDone. Commit must be safe to call twice.
        actors: how many to keep, at most.
        attempts: times a shard is tried.
        shard_seconds: deadline of one attempt.
        start_seconds: deadline of a load, and time that the run waits for room while it has no actor at all.
    """

    def __init__(
        self,
        make_actor: Callable[[], Any],
        actors: int,
        attempts: int,
        shard_seconds: float,
        start_seconds: float,
    ) -> None:
        self._make_actor = make_actor
        self._count = actors
        self._attempts = attempts
        self._shard_seconds = shard_seconds
        self._start_seconds = start_seconds

    def run(
        self,
        shards: Iterable[int],
        on_done: Callable[[ShardDone], None],
        on_failed: Callable[[int, str], None] = lambda shard, cause: None,
        on_tick: Callable[[Outcome], None] = lambda outcome: None,
    ) -> Outcome:
        """Every shard once, or as often as its attempts allow.

        Args:
            on_done: called with each shard that was committed.
            on_failed: called with each shard that is given up, and the cause of its last attempt.
            on_tick: called about once a second with what became of the shards so far; what it raises ends the run.
        """
        waiting = deque(shards)
        tries: dict[int, int] = {}
        causes: dict[int, str] = {}
        in_a_row = 0
        outcome = Outcome()

        def give_up(shard: int) -> None:
            outcome.failed[shard] = causes.pop(shard)
            on_failed(shard, outcome.failed[shard])

        workers = [self._hire() for _ in range(min(self._count, len(waiting)))]
        room_by = time.monotonic() + self._start_seconds
        try:
            while waiting or any(w.shard is not None for w in workers):
                outcome.waiting = len(waiting)
                outcome.ready = sum(w.phase in ("idle", "estimating") for w in workers)
                on_tick(outcome)
                self._assign(workers, waiting)
                for worker, is_late in _ended(workers):
                    shard = worker.shard
                    found = self._settle(worker, is_late)
                    if found is None:  # placed or loaded
                        continue
                    if shard is not None:  # an actor did start
                        outcome.stopped_by = None
                    if not isinstance(found, str):
                        in_a_row = 0
                        causes.pop(found["shard"], None)
                        outcome.done.append(found["shard"])
                        on_done(found)
                        continue
                    if shard is None:
                        in_a_row += _LOST_ACTOR
                        outcome.stopped_by = found
                        continue
                    in_a_row += 1
                    causes[shard] = found
                    tries[shard] = tries.get(shard, 0) + 1
                    if tries[shard] >= self._attempts:
                        give_up(shard)
                    else:
                        outcome.retries += 1
                        waiting.append(shard)
                if any(w.phase != "placing" for w in workers):
                    room_by = time.monotonic() + self._start_seconds
                has_room = time.monotonic() < room_by
                if in_a_row >= _FAILURES_IN_A_ROW * self._count or not has_room:
                    if not has_room:
                        outcome.stopped_by = f"no room for an actor within {self._start_seconds:g} s"
                    left = {*waiting, *(w.shard for w in workers if w.shard is not None)}
                    outcome.untried = len(left - causes.keys())
                    for shard in sorted(causes):
                        give_up(shard)
                    return outcome
        finally:
            for worker in workers:
                ray.kill(worker.handle)
        return outcome

    def _hire(self) -> _Worker:
        handle = self._make_actor()
        return _Worker(handle, handle.placed.remote())

    def _assign(self, workers: list[_Worker], waiting: deque[int]) -> None:
        """Give idle workers a shard; release those for whom there is none."""
        for worker in [w for w in workers if w.phase == "idle" or (w.phase == "placing" and not waiting)]:
            if waiting:
                worker.phase, worker.shard = "estimating", waiting.popleft()
                worker.deadline = time.monotonic() + self._shard_seconds
                worker.call = worker.handle.commit.remote(worker.shard)
            elif len(workers) > 1:  # one stays for a shard that fails elsewhere
                ray.kill(worker.handle)
                workers.remove(worker)

    def _settle(self, worker: _Worker, is_late: bool) -> ShardDone | str | None:
        """What the worker's call gave, why it gave nothing, or None where the worker came a step nearer to work.

        The worker is free afterwards, replaced if need be.
        """
        phase, call, worker.shard, worker.call = worker.phase, worker.call, None, None
        if is_late:
            self._replace(worker)
            if phase == "loading":
                return f"not loaded within {self._start_seconds:g} s: the actor was replaced"
            return f"no answer within {self._shard_seconds:g} s: the actor was replaced; see --shard-seconds"
        try:
            done: ShardDone | None = ray.get(call, timeout=60)
        except RayTaskError as error:
            if phase == "estimating":
                worker.phase = "idle"
            else:
                self._replace(worker)
            return _cause(error)
        except (RayError, GetTimeoutError) as error:
            self._replace(worker)
            return _death(error)
        if phase == "placing":
            worker.phase, worker.call = "loading", worker.handle.load.remote()
            worker.deadline = time.monotonic() + self._start_seconds
            return None
        worker.phase = "idle"
        return done

    def _replace(self, worker: _Worker) -> None:
        ray.kill(worker.handle)
        hired = self._hire()
        worker.handle, worker.call, worker.phase, worker.deadline = hired.handle, hired.call, "placing", math.inf


def _ended(workers: list[_Worker]) -> list[tuple[_Worker, bool]]:
    """Workers whose call has ended (False) or missed its deadline (True); waits for a second at most."""
    busy = {w.call: w for w in workers if w.call is not None}
    ready, running = ray.wait(list(busy), num_returns=1, timeout=1.0)
    now = time.monotonic()
    return [(busy[call], False) for call in ready] + [
        (busy[call], True) for call in running if now > busy[call].deadline
    ]


def _cause(error: RayTaskError) -> str:
    """What a call raised, in one line; with its type where it is no user's mistake."""
    cause = error.cause if error.cause is not None else error
    line = (str(cause).strip().splitlines() or [""])[0]
    return line if isinstance(cause, PostmeanError) else f"{type(cause).__name__}: {line}"


def _death(error: RayError) -> str:
    """How an actor was lost. Ray's own words are a paragraph; the last line names an exception of its start."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return f"the actor did not start: {lines[-1]}"
    if isinstance(error, ActorUnavailableError):
        return "the actor cannot be reached"
    if isinstance(error, ActorDiedError):
        return "the actor's process died: it was killed, ran out of memory or crashed"
    return f"the actor was lost: {lines[0]}"
