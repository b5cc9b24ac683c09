"""The dispatcher: hands shards to actors until each is committed or has failed for good.

Plain actor handles and `ray.wait`. A call that raises is tried again, at most `attempts` times; an actor that died or
missed its deadline is replaced, and its shard given to another. No fault of one shard stops the others, and none hangs.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from pipeline.contract.errors import GenerationError
from pipeline.fleet.actor import ShardDone

_START_SECONDS = 600.0  # an actor loads its replica: GBs from a cold disk, an index onto a GPU
_MOST_RESTARTS_IN_A_ROW = 5  # of actors that died before they finished a single shard


@dataclass
class _Worker:
    handle: Any
    shard: int | None = None
    deadline: float = 0.0
    call: Any = None


@dataclass
class Outcome:
    """What became of the shards."""

    done: list[ShardDone] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    """Cause of the last attempt, by shard"""
    retries: int = 0


class Dispatcher:
    """Runs shards on a fleet.

    Args:
        make_actor: starts an actor and returns its handle.
        actors: how many to keep.
        attempts: times a shard is tried.
        shard_seconds: deadline of one attempt.
    """

    def __init__(self, make_actor: Callable[[], Any], actors: int, attempts: int, shard_seconds: float) -> None:
        self._make_actor = make_actor
        self._count = actors
        self._attempts = attempts
        self._shard_seconds = shard_seconds
        self._workers: list[_Worker] = []
        self._deaths_in_a_row = 0

    def run(self, shards: Iterable[int], on_done: Callable[[ShardDone], None]) -> Outcome:
        """Every shard once, or as often as its attempts allow.

        Raises:
            GenerationError: actors cannot be started or keep dying.
        """
        waiting = deque(shards)
        tries: dict[int, int] = {}
        outcome = Outcome()
        self._workers = [self._start() for _ in range(min(self._count, len(waiting)))]
        try:
            while waiting or any(w.shard is not None for w in self._workers):
                for worker in self._workers:
                    if worker.shard is None and waiting:
                        self._assign(worker, waiting.popleft())
                busy = {w.call: w for w in self._workers if w.shard is not None}
                ready, _ = ray.wait(list(busy), num_returns=1, timeout=1.0)
                late = [w for w in busy.values() if time.monotonic() > w.deadline and w.call not in ready]
                for worker in [busy[call] for call in ready] + late:
                    shard, cause = self._settle(worker, worker in late, outcome, on_done)
                    if cause is None:
                        continue
                    tries[shard] = tries.get(shard, 0) + 1
                    if tries[shard] >= self._attempts:
                        outcome.failed[shard] = cause
                    else:
                        outcome.retries += 1
                        waiting.append(shard)
        finally:
            for worker in self._workers:
                ray.kill(worker.handle)
        return outcome

    def _start(self) -> _Worker:
        handle = self._make_actor()
        return _Worker(handle)

    def _assign(self, worker: _Worker, shard: int) -> None:
        worker.shard = shard
        # a fresh actor loads its replica within its first call
        worker.deadline = time.monotonic() + self._shard_seconds + _START_SECONDS
        worker.call = worker.handle.commit.remote(shard)

    def _settle(
        self, worker: _Worker, late: bool, outcome: Outcome, on_done: Callable[[ShardDone], None]
    ) -> tuple[int, str | None]:
        """Take what a call gave; (shard, None) where it was committed, else the cause."""
        shard, call = worker.shard, worker.call
        assert shard is not None
        worker.shard = worker.call = None
        if late:
            self._replace(worker)
            return shard, f"no answer within {self._shard_seconds:.0f} s: the actor was replaced"
        try:
            done: Any = ray.get(call, timeout=60)
        except RayTaskError as error:
            return shard, _cause(error)
        except (RayActorError, GetTimeoutError, RayError) as error:
            self._replace(worker)
            return shard, f"the actor died: {_first_line(error)}"
        self._deaths_in_a_row = 0
        outcome.done.append(done)
        on_done(done)
        return shard, None

    def _replace(self, worker: _Worker) -> None:
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row > _MOST_RESTARTS_IN_A_ROW * self._count:
            raise GenerationError(
                f"actors died {self._deaths_in_a_row} times in a row without finishing a shard: see the failure files "
                "and Ray's logs, mend the cause and run the same command again"
            )
        ray.kill(worker.handle)
        worker.handle = self._start().handle


def _cause(error: RayTaskError) -> str:
    cause = error.cause if error.cause is not None else error
    return f"{type(cause).__name__}: {_first_line(cause)}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
