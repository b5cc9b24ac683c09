"""Prefetch results in order on daemon threads, which the process does not wait for at exit."""

import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Calls `make` for each of `places`, at most `depth` calls ahead of `take`, in threads that start at once.

    Not an executor: Python waits at exit for an executor's threads, and these threads may wait long for a shard.

    Args:
        name: name of the threads.
        threads: how many; more than one call at a time is made if `depth` leaves room for them.
    """

    def __init__(
        self, make: Callable[[int], T], places: Iterable[int], depth: int, name: str, threads: int = 1
    ) -> None:
        self._make, self._places = make, iter(places)
        self._room = threading.Semaphore(depth)
        self._turn = threading.Lock()
        self._results: queue.SimpleQueue[Future[T]] = queue.SimpleQueue()  # in the order of the places
        self._next: Future[T] | None = None  # the result that `take` waits for
        self._closed = False
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def take(self, seconds: float | None = None) -> T:
        """The next result, or the exception of its call. Do not take more after an exception or the last place.

        Args:
            seconds: longest wait for a call to begin, and for it to end; None: no limit.
        Raises:
            queue.Empty: it was not ready within `seconds`.
            CancelledError: `close` was called before its call began.
        """
        result = self._next = self._next or self._results.get(timeout=seconds)
        if not wait([result], seconds).done:
            raise queue.Empty
        self._next = None
        self._room.release()
        return result.result()

    def close(self, seconds: float = 0.0) -> None:
        """Begin no further call.

        Args:
            seconds: longest wait for the calls in progress.
        """
        self._closed = True
        self._room.release(len(self._threads))
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        while True:
            self._room.acquire()
            with self._turn:
                place = next(self._places, None)
                if place is None:
                    return
                result: Future[T] = Future()
                self._results.put(result)
            if self._closed:
                result.set_exception(CancelledError())
                return
            try:
                result.set_result(self._make(place))
            except BaseException as error:
                result.set_exception(error)
                return
