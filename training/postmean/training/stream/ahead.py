"""Things made ahead of their use, in order, by a thread that nobody has to wait for."""

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Calls `make` of each of `places`, at most `depth` + 1 calls ahead of `take`, in a thread that begins now.

    Args:
        name: of the thread.
    """

    def __init__(self, make: Callable[[int], T], places: Iterable[int], depth: int, name: str) -> None:
        self._make, self._places = make, places
        self._ready: queue.Queue[tuple[T, None] | tuple[None, BaseException]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def take(self, seconds: float) -> T:
        """The next one, or the exception that making it raised, which is the last.

        Raises:
            queue.Empty: it is not made within `seconds`.
        """
        made, error = self._ready.get(timeout=seconds)
        if error is not None:
            raise error
        return made  # pyright: ignore[reportReturnType]

    def stop(self) -> None:
        """Begin no further call."""
        self._stop.set()

    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def join(self, seconds: float | None = None) -> None:
        """After `stop`: wait for the call that is under way, so long at most; None for as long as it takes."""
        self._thread.join(seconds)

    def _run(self) -> None:
        for place in self._places:
            made: tuple[T, None] | tuple[None, BaseException]
            try:
                made = self._make(place), None
            except BaseException as error:
                made = None, error
            while not self._stop.is_set():
                try:
                    self._ready.put(made, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._stop.is_set() or made[1] is not None:
                return
