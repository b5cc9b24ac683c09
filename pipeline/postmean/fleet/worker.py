"""A worker: one place in the fleet, the actor that has it now, and what that actor is doing.

An actor is placed (where and when the cluster has room), loads its replica, and then makes shard after shard. One that
died, missed its deadline or raised what is no error of ours is replaced. Where replacements go on failing while others
work, as on a broken GPU that Ray finds free again and again, the next is hired after a pause that doubles each time.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Literal

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from postmean.base.log import log_event
from postmean.fleet.causes import cause, death, is_ours

_FRESH_SECONDS = 1.0  # an actor that has been idle for longer may have died unseen
_PING_SECONDS = 30.0
_PAUSES = (5.0, 600.0)
"""Seconds before the third actor in a row that came to nothing is replaced, and at most."""


class Worker:
    """Hires its first actor at once.

    Args:
        make_actor: starts an actor and returns its handle. Its `placed()` returns at once, its `load()` when it is
            ready, and its `make(shard)` gives a ShardDone. Making must be safe to do twice.
        shard_seconds: deadline of one attempt.
        start_seconds: deadline of a load.
    """

    def __init__(self, make_actor: Callable[[], Any], shard_seconds: float, start_seconds: float) -> None:
        self._make_actor = make_actor
        self._shard_seconds, self._start_seconds = shard_seconds, start_seconds
        self._wasted = 0  # actors in a row that made nothing
        self._handle: Any = None
        self.phase: Literal["paused", "placing", "loading", "idle", "pinging", "estimating"] = "paused"
        self.call: Any = None
        """What the actor is doing; None while it is idle, and in a pause."""
        self.shard: int | None = None
        """What it is making."""
        self.deadline = 0.0
        self.idle_since = self._heard = 0.0
        self.hire()

    @property
    def is_ready(self) -> bool:
        """Whether its actor has loaded."""
        return self.phase in ("idle", "pinging", "estimating")

    @property
    def is_vacant(self) -> bool:
        """Whether it has no actor yet, or again: in a pause, or waiting for room."""
        return self.phase in ("paused", "placing")

    @property
    def is_fresh(self) -> bool:
        """Whether the idle actor was heard of a moment ago. If not, ping it before it gets a shard: a shard is no
        probe, as it has few attempts and a cut link eats one for a whole deadline."""
        return time.monotonic() - self._heard <= _FRESH_SECONDS

    def hire(self) -> None:
        """Start an actor, in whose place there is none."""
        self._handle = self._make_actor()
        log_event("actor hired")
        self._begin("placing", self._handle.placed.remote(), math.inf)

    def go_on(self, are_others_ready: bool) -> None:
        """Hire after a pause that is over, or in which no other worker is left."""
        if time.monotonic() >= self.deadline or not are_others_ready:
            self.hire()

    def ping(self) -> None:
        """Ask the idle actor for a sign of life."""
        self._begin("pinging", self._handle.placed.remote(), _PING_SECONDS)

    def make(self, shard: int) -> None:
        """Give the idle actor a shard."""
        self.shard = shard
        self._begin("estimating", self._handle.make.remote(shard), self._shard_seconds)

    def release(self) -> None:
        """End the actor, if there is one."""
        if self._handle is not None:
            ray.kill(self._handle)

    def settle(self, is_late: bool, are_others_ready: bool) -> Any | str | None:
        """What the call gave that has ended or is late, why it gave nothing, or None: a step nearer to work.

        The actor is free afterwards, or replaced.
        """
        phase, call, self.call, self.shard = self.phase, self.call, None, None
        if is_late:
            self._replace(are_others_ready)
            return {
                "loading": f"not loaded within {self._start_seconds:g} s: the actor was replaced",
                "pinging": "the idle actor gave no sign of life: it was replaced",
            }.get(phase, f"no answer within {self._shard_seconds:g} s: the actor was replaced; see --shard-seconds")
        try:
            found = ray.get(call, timeout=60)
        except RayTaskError as error:
            if phase == "estimating" and is_ours(error):
                self._rest()
            else:  # a broken CUDA context, say, which fails whatever comes next
                self._replace(are_others_ready)
            return cause(error)
        except (RayError, GetTimeoutError) as error:
            self._replace(are_others_ready)
            return death(error)
        if phase == "placing":
            self._begin("loading", self._handle.load.remote(), self._start_seconds)
            return None
        if phase == "pinging":
            self.phase, self._heard = "idle", time.monotonic()
            return None
        self._rest()
        if phase == "loading":
            log_event("actor ready")
            return None
        self._wasted = 0
        return found

    def _begin(self, phase: Literal["placing", "loading", "pinging", "estimating"], call: Any, seconds: float) -> None:
        self.phase, self.call, self.deadline = phase, call, time.monotonic() + seconds

    def _rest(self) -> None:
        self.phase, self.idle_since = "idle", time.monotonic()
        self._heard = self.idle_since

    def _replace(self, are_others_ready: bool) -> None:
        ray.kill(self._handle)
        self._handle = None
        self._wasted += 1
        first, most = _PAUSES
        pause = min(most, first * 2.0 ** min(self._wasted - 2, 16)) if self._wasted > 1 else 0.0
        if pause and are_others_ready:
            log_event("actor paused", seconds=pause)
            self.phase, self.deadline = "paused", time.monotonic() + pause
        else:  # where nobody works, the run finds out soon whether anybody can
            self.hire()
