"""The dispatcher: hands shards to actors until each is committed or has failed for good.

Plain actor handles and `ray.wait`. A shard whose call fails is tried again, at most `attempts` times. Actors without
room wait for it and join the others when there is some. They are hired while there are shards for them and released
when they have been idle for long. No fault of one shard stops the others, and none hangs.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ray

from postmean.base.log import log_event
from postmean.fleet.backlog import Backlog
from postmean.fleet.outcome import Outcome
from postmean.fleet.worker import Worker

_FAILURES_IN_A_ROW = 24
"""Failed attempts an actor, none in between that succeeded, after which the cause is taken to be everyone's: a full
disk, a damaged store. A run of a million shards must not try each of them."""
_TICK_SECONDS = 1.0
_IDLE_SECONDS = 0.05  # between two looks for a shard that an idle actor can make
_LOST_ACTOR = 3  # failed attempts that a lost actor counts for: it takes seconds to replace, and its deadline to notice


class Dispatcher:
    """Makes shards on a fleet.

    Args:
        make_actor: as for Worker.
        actors: how many to have, at most.
        min_actors: how many to have when there is nothing to do.
        idle_seconds: how long an actor above these may be idle before it is released.
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
        min_actors: int = 1,
        idle_seconds: float = 60.0,
    ) -> None:
        self._hire = partial(Worker, make_actor, shard_seconds, start_seconds)
        self._most, self._least = actors, min(actors, min_actors)
        self._idle_seconds = idle_seconds
        self._attempts = attempts
        self._start_seconds = start_seconds

    def run(
        self,
        backlog: Backlog,
        on_done: Callable[[Any], None],
        on_failed: Callable[[int, str], None] = lambda shard, why: None,
        on_tick: Callable[[Outcome], None] = lambda outcome: None,
    ) -> Outcome:
        """Every shard once, or as often as its attempts allow, until the backlog is over.

        Args:
            on_done: called with what `make` gave for each shard that was made.
            on_failed: called with each shard that is given up, and the cause of its last attempt.
            on_tick: called about once a second with what became of the shards so far; what it raises ends the run.
        """
        tries: dict[int, int] = {}
        causes: dict[int, str] = {}
        in_a_row = 0
        outcome = Outcome()

        def give_up(shard: int) -> None:
            tries.pop(shard, None)
            outcome.failed[shard] = causes.pop(shard)
            log_event("shard given up", shard=shard, cause=outcome.failed[shard])
            on_failed(shard, outcome.failed[shard])

        workers: list[Worker] = []
        room_by, tick_at = time.monotonic() + self._start_seconds, 0.0
        try:
            while not backlog.is_over() or any(w.shard is not None for w in workers):
                for worker in (w for w in workers if w.phase == "paused"):
                    worker.go_on(_are_others_ready(worker, workers))
                _assign(workers, backlog)
                self._resize(workers, backlog)
                if time.monotonic() >= tick_at:
                    outcome.waiting, outcome.actors = len(backlog), len(workers)
                    outcome.ready = sum(w.is_ready for w in workers)
                    on_tick(outcome)
                    tick_at = time.monotonic() + _TICK_SECONDS
                for worker, is_late in _ended(workers):
                    shard, was_idle = worker.shard, worker.phase == "pinging"
                    found = worker.settle(is_late, _are_others_ready(worker, workers))
                    if found is None:  # placed, loaded or alive
                        continue
                    if was_idle:
                        log_event("idle actor lost", cause=found)
                        continue
                    if shard is not None:  # an actor did start
                        outcome.stopped_by = None
                    if not isinstance(found, str):
                        in_a_row = 0
                        causes.pop(found["shard"], None)
                        tries.pop(found["shard"], None)
                        outcome.done += 1
                        on_done(found)
                        continue
                    if shard is None:
                        log_event("actor did not start", cause=found)
                        in_a_row += _LOST_ACTOR
                        outcome.stopped_by = found
                        continue
                    log_event("shard failed", shard=shard, cause=found, replaced=worker.is_vacant)
                    in_a_row += _LOST_ACTOR if worker.is_vacant else 1
                    causes[shard] = found
                    tries[shard] = tries.get(shard, 0) + 1
                    if tries[shard] >= self._attempts:
                        give_up(shard)
                    else:
                        outcome.retries += 1
                        backlog.put_back(shard)
                if not workers or any(w.phase != "placing" for w in workers):
                    room_by = time.monotonic() + self._start_seconds
                has_room = time.monotonic() < room_by
                if in_a_row >= _FAILURES_IN_A_ROW * self._most or not has_room:
                    if not has_room:
                        outcome.stopped_by = f"no room for an actor within {self._start_seconds:g} s"
                    # those that were tried and are to be tried again are failures
                    handed_out = {w.shard for w in workers if w.shard is not None}
                    outcome.untried = len(backlog) + len(handed_out) - len(causes)
                    for shard in sorted(causes):
                        give_up(shard)
                    return outcome
        finally:
            for worker in workers:
                worker.release()
        return outcome

    def _resize(self, workers: list[Worker], backlog: Backlog) -> None:
        """Hire for shards that wait for a worker, and the least; release workers who wait for a shard."""
        over, takeable = backlog.is_over(), backlog.takeable(self._most)
        busy = sum(w.shard is not None for w in workers)
        least = busy + 1 if over else self._least  # a spare, for a shard that fails elsewhere
        wanted = min(self._most, max(busy + takeable, least))
        if not over:
            workers += [self._hire() for _ in range(wanted - len(workers))]
        if takeable:
            return
        until = time.monotonic() - (0 if over else self._idle_seconds)
        waiting = [w for w in workers if w.is_vacant or (w.phase == "idle" and w.idle_since <= until)]
        for worker in sorted(waiting, key=lambda w: w.phase == "idle"):  # the spare is one that has loaded, if any
            if len(workers) > wanted:
                log_event("actor released", phase=worker.phase)
                worker.release()
                workers.remove(worker)


def _assign(workers: list[Worker], backlog: Backlog) -> None:
    """Give each idle worker a shard, those that worked last first; ask those first that were not heard of for long."""
    idle = sorted((w for w in workers if w.phase == "idle"), key=lambda w: -w.idle_since)
    for worker in idle[: backlog.takeable(len(idle))]:
        if not worker.is_fresh:
            worker.ping()
        elif (shard := backlog.take()) is not None:
            worker.make(shard)


def _are_others_ready(worker: Worker, workers: list[Worker]) -> bool:
    return any(other.is_ready for other in workers if other is not worker)


def _ended(workers: list[Worker]) -> list[tuple[Worker, bool]]:
    """Workers whose call has ended (False) or missed its deadline (True); waits for a moment at most."""
    busy = {w.call: w for w in workers if w.call is not None}
    if not busy:
        time.sleep(_IDLE_SECONDS)
        return []
    timeout = _IDLE_SECONDS if len(busy) < len(workers) else _TICK_SECONDS  # an idle one waits for a shard
    ready, running = ray.wait(list(busy), num_returns=1, timeout=timeout)
    now = time.monotonic()
    return [(busy[call], False) for call in ready] + [
        (busy[call], True) for call in running if now > busy[call].deadline
    ]
