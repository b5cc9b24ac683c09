"""Follow a run that is still being generated: wait for it to begin, then for each shard in turn."""

import threading
import time
from collections.abc import Callable

from postmean.base.errors import ShardError
from postmean.base.log import tell
from postmean.shards.run_reader import RunReader

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two checks; an object store bills each
_QUIET_SECONDS = 3.0  # a longer wait is reported


class Follower:
    """Waits for files that `postmean generate` has not written yet.

    Args:
        seconds: longest wait for each.
    """

    def __init__(self, run: RunReader, seconds: float) -> None:
        self._run, self._seconds = run, seconds
        self._stop = threading.Event()

    def wait_for_beginning(self, says_so: bool) -> None:
        """Return once the run has its manifest, which is written after everything else a reader needs at the start.

        Args:
            says_so: whether to tell the user of a wait longer than 3 s.
        Raises:
            ShardError: it has none within `seconds`.
        """
        notice = threading.Timer(_QUIET_SECONDS, self._say)
        if says_so:
            notice.start()
        try:
            self._wait(self._run.has_manifest, f"{self._run.url}: no run began there")
        finally:
            notice.cancel()

    def _say(self) -> None:
        text = f"{self._run.url}: waiting for a run to begin there, {self._seconds:g} s at most"
        tell("waiting", text, targets=self._run.url, seconds=self._seconds)

    def wait_for_shard(self, shard: int) -> None:
        """Return once the shard is committed.

        Raises:
            ShardError: it is not committed within `seconds`, or `stop` was called.
            StorageError: a live run could not make it; the message says why.
        """
        self._wait(lambda: self._run.is_committed(shard), f"{self._run.url}: shard {shard:06d} was not committed")

    def stop(self) -> None:
        """End all current and future waits."""
        self._stop.set()

    def _wait(self, is_there: Callable[[], bool], what: str) -> None:
        deadline, pause = time.monotonic() + self._seconds, _FIRST_PAUSE
        while not is_there():
            left = deadline - time.monotonic()
            if left <= 0:
                raise ShardError(
                    f"{what} within {self._seconds:g} s: see `postmean status {self._run.url}` and run "
                    "`postmean generate` again if it stopped, or wait longer with --follow-seconds"
                )
            if self._stop.wait(min(pause, left)):
                raise ShardError(f"{what}: the stream was closed")
            pause = min(2 * pause, _LONGEST_PAUSE)
