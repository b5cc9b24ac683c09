"""Prefetch results in order on a daemon thread, which the process does not wait for at exit."""

import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Calls `make` for each of `places`, at most `depth` calls ahead of `take`, in a thread that starts at once.

    Not an executor: Python waits at exit for an executor's threads, and this thread may wait long for a shard.

    Args:
        name: name of the thread.
    """

    def __init__(self, make: Callable[[int], T], places: Iterable[int], depth: int, name: str) -> None:
        self._make, self._places = make, places
        self._room = threading.Semaphore(depth)
        self._results: queue.SimpleQueue[Future[T]] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def take(self, seconds: float | None = None) -> T:
        """The next result, or the exception of its call. Do not take more after an exception or the last place.

        Args:
            seconds: longest wait; None: no limit.
        Raises:
            queue.Empty: it was not ready within `seconds`.
            CancelledError: `close` was called before its call began.
        """
        result = self._results.get(timeout=seconds)
        self._room.release()
        return result.result()

    def close(self, seconds: float = 0.0) -> None:
        """Begin no further call.

        Args:
            seconds: longest wait for the call in progress.
        """
        self._closed = True
        self._room.release()
        self._thread.join(seconds)

    def _run(self) -> None:
        for place in self._places:
            self._room.acquire()
            result: Future[T] = Future()
            if self._closed:
                result.cancel()
            else:
                try:
                    result.set_result(self._make(place))
                except BaseException as error:
                    result.set_exception(error)
            self._results.put(result)
            if result.cancelled() or result.exception() is not None:
                return
