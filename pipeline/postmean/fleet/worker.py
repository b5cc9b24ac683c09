"""A worker: one place in the fleet, its current actor, and what that actor is doing.

An actor is placed when the cluster has room, loads its replica, and then makes shards: one after another, or several at
a time, so that a GPU need not wait while the actor prepares, packs and writes. It is replaced if it dies, misses a
deadline, cannot load, or raises anything but a PostmeanError. One that waits for room is asked for again from time to
time: its process may have frozen as it started, which looks the same.

If replacements keep failing while other workers are ready, as on a broken GPU that Ray finds free again and again, each
next one is hired after a pause, which doubles each time.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from postmean.base.log import log_event
from postmean.fleet.calls import Actor, Call, CallFailed, Calls

_FRESH_SECONDS = 1.0  # an actor that has been idle for longer may have died unseen
_PING_SECONDS = 30.0
_PAUSES = (5.0, 600.0)
"""Pause before the second actor lost in a row is replaced, with no shard made in between: the first value, doubling
with each further loss up to the second."""


@dataclass(frozen=True)
class Made:
    """The actor made its shard."""

    shard: int
    result: Any
    """What its `make` returned."""


@dataclass(frozen=True)
class ShardFailed:
    """The actor did not make its shard."""

    shard: int
    cause: str
    is_actor_lost: bool
    """Whether the actor was replaced too."""


@dataclass(frozen=True)
class NotPlaced:
    """The actor had found no room by its deadline, or froze as it started: another was asked for."""


@dataclass(frozen=True)
class StartFailed:
    """The actor died before it was placed, or did not load: it was replaced."""

    cause: str


@dataclass(frozen=True)
class IdleLost:
    """The actor was lost while it was idle: it was replaced."""

    cause: str


@dataclass(frozen=True)
class Alive:
    """The actor was placed, has loaded or has answered a ping."""


Settled: TypeAlias = Made | ShardFailed | NotPlaced | StartFailed | IdleLost | Alive
"""The result of a call."""


class Worker:
    """Hires its first actor at once.

    Its actor has three methods, which may be called at the same time. `placed()` returns at once, `load()` returns when
    the actor is ready, and `make(shard)` returns a ShardDone. Making a shard twice must be harmless.

    Args:
        shard_seconds: deadline of one attempt.
        start_seconds: deadline of a load, and time after which an actor that is not placed is asked for again.
        most_shards: that the actor makes at a time.
    """

    def __init__(self, calls: Calls, shard_seconds: float, start_seconds: float, most_shards: int = 1) -> None:
        self._calls = calls
        self._shard_seconds, self._start_seconds = shard_seconds, start_seconds
        self._most_shards = most_shards
        self._actor: Actor | None = None
        self._making: dict[Call, int] = {}
        self._deadlines: dict[Call, float] = {}
        self._wasted = 0  # actors lost since the last shard was made
        self._heard = 0.0
        self.phase: Literal["paused", "placing", "loading", "idle", "pinging", "estimating"] = "paused"
        self._pause_ends = 0.0
        self.idle_since = self._idle_before_ping = 0.0
        self.hire()

    @property
    def calls(self) -> list[Call]:
        """The calls in progress; none while the actor is idle, and in a pause."""
        return list(self._deadlines)

    @property
    def shards(self) -> list[int]:
        """The shards being made."""
        return list(self._making.values())

    @property
    def has_room(self) -> bool:
        """Whether the actor makes shards and can make another at the same time."""
        return self.phase == "estimating" and len(self._making) < self._most_shards

    @property
    def is_ready(self) -> bool:
        """Whether its actor has loaded."""
        return self.phase in ("idle", "pinging", "estimating")

    @property
    def is_vacant(self) -> bool:
        """Whether it has no placed actor: it is in a pause or waiting for room."""
        return self.phase in ("paused", "placing")

    @property
    def is_fresh(self) -> bool:
        """Whether the idle actor was heard from a moment ago. If not, ping it before it gets a shard: on a cut link a
        shard would lose one of its few attempts, and only after a whole deadline."""
        return self._calls.now() - self._heard <= _FRESH_SECONDS

    def hire(self) -> None:
        """Start an actor; there must be none at present."""
        self._actor = self._calls.start()
        log_event("actor hired")
        self._begin("placing", self._start_seconds, "placed")

    def go_on(self, are_others_ready: bool) -> None:
        """Hire if the pause is over or no other worker is ready."""
        if self._calls.now() >= self._pause_ends or not are_others_ready:
            self.hire()

    def ping(self) -> None:
        """Check that the idle actor still answers."""
        self._idle_before_ping = self.idle_since
        self._begin("pinging", _PING_SECONDS, "placed")

    def make(self, shard: int) -> None:
        """Give the actor a shard; it is idle or has room."""
        # those before it may be in its way
        seconds = self._shard_seconds * (len(self._making) + 1)
        self._making[self._begin("estimating", seconds, "make", shard)] = shard

    def release(self) -> None:
        """End the actor, if there is one, and its calls."""
        self._making, self._deadlines = {}, {}
        if self._actor is not None:
            self._calls.kill(self._actor)
            self._actor = None

    def is_late(self, call: Call) -> bool:
        """Whether the call has missed its deadline."""
        return self._calls.now() > self._deadlines[call]

    def settle(self, call: Call, is_late: bool, are_others_ready: bool) -> list[Settled]:
        """Take the result of a call that has ended, or give up a call that is late.

        Afterwards the actor is idle, loading, at work on other shards, or replaced. Its other shards are lost with it.
        """
        phase, shard = self.phase, self._making.get(call)
        if is_late and phase == "placing":
            self.release()
            self.hire()
            return [NotPlaced()]
        try:
            if is_late:
                raise CallFailed(self._missed_deadline(phase))
            result = self._calls.result(call)
        except CallFailed as failure:
            return self._settle_failure(call, failure, are_others_ready)
        self._end(call)
        if shard is not None:
            self._wasted = 0
            return [Made(shard, result)]
        if phase == "placing":
            self._begin("loading", self._start_seconds, "load")
        elif phase == "loading":
            log_event("actor ready")
        else:
            self.idle_since = self._idle_before_ping
        return [Alive()]

    def _settle_failure(self, call: Call, failure: CallFailed, are_others_ready: bool) -> list[Settled]:
        phase, shard = self.phase, self._making.get(call)
        if shard is not None and failure.is_ours:
            self._end(call)
            return [ShardFailed(shard, failure.cause, False)]
        # not our error: perhaps a broken CUDA context
        lost = [other for other in self._making.values() if other != shard]
        self._replace(are_others_ready)
        if shard is None:
            return [IdleLost(failure.cause) if phase == "pinging" else StartFailed(failure.cause)]
        beside = f"its actor was lost as it made shard {shard:06d} too: {failure.cause}"
        return [ShardFailed(shard, failure.cause, True), *(ShardFailed(other, beside, False) for other in lost)]

    def _begin(
        self,
        phase: Literal["placing", "loading", "pinging", "estimating"],
        seconds: float,
        method: str,
        *arguments: int,
    ) -> Call:
        self.phase = phase
        call = self._calls.call(self._actor, method, *arguments)
        self._deadlines[call] = self._calls.now() + seconds
        return call

    def _end(self, call: Call) -> None:
        """The actor has answered a call."""
        self._making.pop(call, None)
        del self._deadlines[call]
        self._heard = self._calls.now()
        if not self._making:
            self.phase, self.idle_since = "idle", self._heard

    def _missed_deadline(self, phase: str) -> str:
        if phase == "loading":
            return f"not loaded within {self._start_seconds:g} s: the actor was replaced"
        if phase == "pinging":
            return "the idle actor gave no sign of life: it was replaced"
        return f"no answer within {self._shard_seconds:g} s: the actor was replaced; see --shard-seconds"

    def _replace(self, are_others_ready: bool) -> None:
        self.release()
        self._wasted += 1
        first, most = _PAUSES
        pause = min(most, first * 2.0 ** min(self._wasted - 2, 16)) if self._wasted > 1 else 0.0
        if pause and are_others_ready:
            log_event("actor paused", seconds=pause)
            self.phase, self._pause_ends = "paused", self._calls.now() + pause
        else:  # if no other worker is ready, find out soon whether any actor can work
            self.hire()
