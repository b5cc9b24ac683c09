"""Calls of actors: everything the dispatcher needs from Ray and from the clock. No Ray in here."""

from typing import Any, Protocol, TypeAlias

Actor: TypeAlias = Any
"""Handle of an actor; opaque."""
Call: TypeAlias = Any
"""A call sent to an actor; opaque, hashable."""


class CallFailed(Exception):
    """A call gave no result.

    Args:
        cause: why, in one line.
        is_ours: whether the call raised a PostmeanError; after any other error, and after the actor's death, its
            process may be broken or gone.
    """

    def __init__(self, cause: str, is_ours: bool = False) -> None:
        super().__init__(cause)
        self.cause, self.is_ours = cause, is_ours


class Calls(Protocol):
    """Starts and ends actors, calls their methods, waits."""

    def start(self) -> Actor:
        """Ask for an actor and return at once; its first call waits until there is room for it."""
        ...

    def call(self, actor: Actor, method: str, *arguments: Any) -> Call:
        """Send a call and return at once."""
        ...

    def wait(self, calls: list[Call], seconds: float) -> tuple[list[Call], list[Call]]:
        """Wait until one of the calls has ended, at most `seconds`.

        Returns:
            the one that has ended, successfully or not, if any; and the others, some of which may have ended too.
        """
        ...

    def result(self, call: Call) -> Any:
        """The result of a call that has ended; CallFailed if it has none."""
        ...

    def kill(self, actor: Actor) -> None:
        """End the actor, whatever it is doing, and free its room. It may be dead already."""
        ...

    def now(self) -> float:
        """Seconds on a clock that never runs backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
