"""Scripted actors on a simulated clock: nothing runs and nothing waits, so an hour takes milliseconds.

tests/fleet/test_calls.py checks that real Ray behaves the same.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from postmean.fleet.calls import CallFailed

DEATH = "the actor's process died: it was killed, ran out of memory or crashed"
START_SECONDS = 0.5
"""Seconds from when there is room to the end of an actor's first call."""
_INSTANT = 0.001


@dataclass(frozen=True)
class Answer:
    """The end of a call: after some seconds it returns a value, raises a failure, or its process dies."""

    seconds: float = _INSTANT
    value: Any = None
    failure: CallFailed | None = None
    dies: bool = False


NEVER = Answer(math.inf)
DIES = Answer(dies=True)


@dataclass(eq=False)
class ScriptedActor:
    """One process, or one that waits for room."""

    number: int
    state: str = "waiting"
    """waiting for room, alive, frozen or dead"""


@dataclass(eq=False)
class ScriptedCall:
    """A call that was sent."""

    actor: ScriptedActor
    method: str
    arguments: tuple[Any, ...]
    answer: Answer
    ends_at: float


@dataclass(eq=False)
class ScriptedCalls:
    """Implements `Calls`.

    Args:
        script: gives the answer to a call of `load` or `make` from the actor, the method and its arguments.
        room: most actors that have a place at the same time.
    """

    script: Callable[..., Answer]
    room: int = 1_000_000
    actors: list[ScriptedActor] = field(default_factory=list)
    """All actors that were started."""
    killed: set[ScriptedActor] = field(default_factory=set)
    """Actors that were ended by `kill`."""
    made: list[tuple[int, ScriptedActor]] = field(default_factory=list)
    """Shard and actor of every call of `make`."""

    def __post_init__(self) -> None:
        self._now = 0.0
        self._pending: list[ScriptedCall] = []
        self._numbers = itertools.count()

    def start(self) -> ScriptedActor:
        actor = ScriptedActor(next(self._numbers))
        self.actors.append(actor)
        return actor

    def call(self, actor: ScriptedActor, method: str, *arguments: Any) -> ScriptedCall:
        if method == "make":
            self.made.append((arguments[0], actor))
        answer = self._answer(actor, method, arguments)
        call = ScriptedCall(actor, method, arguments, answer, self._now + answer.seconds)
        self._pending.append(call)
        self._fill()
        return call

    def wait(self, calls: list[ScriptedCall], seconds: float) -> tuple[list[ScriptedCall], list[ScriptedCall]]:
        until = self._now + seconds
        while not (ended := [call for call in calls if call.ends_at <= self._now]) and self._now < until:
            self._advance(until)
        return ended[:1], [call for call in calls if call not in ended[:1]]

    def result(self, call: ScriptedCall) -> Any:
        assert call.ends_at <= self._now
        if call.answer.failure is not None:
            raise call.answer.failure
        return call.answer.value

    def kill(self, actor: ScriptedActor) -> None:
        self.killed.add(actor)
        self.die(actor)

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        until = self._now + seconds
        while self._now < until:
            self._advance(until)

    def die(self, actor: ScriptedActor) -> None:
        """End the process, or its wait for room; its current call fails."""
        if actor.state != "dead":
            actor.state = "dead"
            for call in [call for call in self._pending if call.actor is actor]:
                call.answer, call.ends_at = Answer(failure=CallFailed(DEATH)), self._now
                self._pending.remove(call)
            self._fill()

    def freeze(self, actor: ScriptedActor) -> None:
        """Stop the process for ever; it keeps its room."""
        actor.state = "frozen"
        for call in self._pending:
            if call.actor is actor:
                call.ends_at = math.inf

    def alive(self) -> list[ScriptedActor]:
        """Actors that have a place."""
        return [actor for actor in self.actors if actor.state in ("alive", "frozen")]

    def making(self, actor: ScriptedActor) -> list[int]:
        """Shards of the actor's calls of `make` that have not ended."""
        return [c.arguments[0] for c in self._pending if c.actor is actor and c.method == "make"]

    def _answer(self, actor: ScriptedActor, method: str, arguments: tuple[Any, ...]) -> Answer:
        if actor.state == "dead":
            return Answer(failure=CallFailed(DEATH))
        if actor.state in ("waiting", "frozen"):
            return NEVER
        return Answer() if method == "placed" else self.script(actor, method, *arguments)

    def _fill(self) -> None:
        """Give free room to waiting actors."""
        for call in self._pending:
            if call.actor.state == "waiting" and len(self.alive()) < self.room:
                call.actor.state = "alive"
                call.answer, call.ends_at = Answer(), self._now + START_SECONDS

    def _advance(self, until: float) -> None:
        """Move the clock to the next end of a call, but not past `until`."""
        self._now = min([until, *(call.ends_at for call in self._pending)])
        for call in [call for call in self._pending if call.ends_at <= self._now]:
            if call not in self._pending:
                continue  # its actor has died with another call
            if call.answer.dies:
                self.die(call.actor)
            else:
                self._pending.remove(call)
