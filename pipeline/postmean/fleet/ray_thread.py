"""One thread in which all of Ray's calls run, each with a deadline.

A frozen raylet or GCS blocks calls for ever, even the one that ends Ray, and no signal is handled in a thread that is
blocked. So the driver asks this thread and waits: for an answer, a signal or the deadline.

There is one thread for the whole session: the kernel ends Ray's processes when the thread that started them ends.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any, TypeVar

from postmean.base.errors import GenerationError

T = TypeVar("T")

ANSWER_SECONDS = 60.0
"""Deadline of a call that takes milliseconds."""


class RayHangs(GenerationError):
    """Ray gave no answer before a deadline."""


class RayThread:
    """Starts the thread. After a missed deadline every further call fails at once."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Future, Callable[[], Any]]] = SimpleQueue()
        self._hangs: RayHangs | None = None
        threading.Thread(target=self._answer, name="postmean-ray", daemon=True).start()

    def ask(self, call: Callable[[], T], seconds: float = ANSWER_SECONDS) -> T:
        """Run `call` in the thread and return its result, or raise what it raises.

        Raises:
            RayHangs: no answer within `seconds`. The call may go on in the thread.
        """
        if self._hangs is not None:
            raise self._hangs
        future: Future[T] = Future()
        self._asked.put((future, call))
        if not wait((future,), seconds).done:
            self._hangs = RayHangs(
                f"Ray gave no answer within {seconds:g} s (its raylet or its GCS hangs): committed shards stay: run "
                "the same command again"
            )
            raise self._hangs
        return future.result()

    def _answer(self) -> None:
        while True:
            future, call = self._asked.get()
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            del future, call  # keep no reference to a result
