"""Calls of actors: all that the dispatcher needs of Ray and of the clock. No Ray in here."""

from typing import Any, Protocol, TypeAlias

Actor: TypeAlias = Any
"""Handle of an actor; opaque."""
Call: TypeAlias = Any
"""A call that was sent to an actor; opaque, hashable."""


class CallFailed(Exception):
    """A call gave no result.

    Args:
        cause: why, in one line.
        is_ours: whether the call raised an error that postmean words itself; after any other, and after a death, the
            process may be broken or gone.
    """

    def __init__(self, cause: str, is_ours: bool = False) -> None:
        super().__init__(cause)
        self.cause, self.is_ours = cause, is_ours


class Calls(Protocol):
    """Starts and ends actors, calls their methods, waits."""

    def start(self) -> Actor:
        """Ask for an actor; its first call waits until there is room for it. Returns at once."""
        ...

    def call(self, actor: Actor, method: str, *arguments: Any) -> Call:
        """Send a call. Returns at once."""
        ...

    def wait(self, calls: list[Call], seconds: float) -> tuple[list[Call], list[Call]]:
        """Wait until one of the calls has ended, so many seconds at most.

        Returns:
            the one that has ended, if any, whether well or not; and the others, of which some may have ended too.
        """
        ...

    def result(self, call: Call) -> Any:
        """What a call returned that has ended; CallFailed where it did not return."""
        ...

    def kill(self, actor: Actor) -> None:
        """End the actor, whatever it does, and make its room free. One that is dead already is fine."""
        ...

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
