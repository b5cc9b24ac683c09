"""One pass over a stream: its own reader, and a thread that prepares batches ahead."""

from postmean.training.stream.ahead import Ahead
from postmean.training.stream.batch import TargetBatch
from postmean.training.stream.reader import OpenRun, TargetReader
from postmean.training.stream.share import Share

_SECONDS_TO_END = 1.0  # longest wait for each kind of thread on leaving; a storage request may take much longer


class Iteration:
    """Prepares a rank's batches, at most `depth` ahead of `take`. Starts at once.

    Args:
        places: first tuple of each global batch to prepare.
        pin: whether batches are in page-locked memory.
    """

    def __init__(self, run: OpenRun, share: Share, places: range, depth: int, pin: bool) -> None:
        self._share, self._pin = share, pin
        self._reader = TargetReader(run, share.tuples.stop)
        self._ahead = Ahead(self._make, places, depth, "postmean-stream")

    def take(self, seconds: float) -> TargetBatch:
        """The next batch.

        Raises:
            queue.Empty: it was not ready within `seconds`.
            ShardError, MismatchError, StorageError: it cannot be made.
            CancelledError: `close` was called.
        """
        return self._ahead.take(seconds)

    def close(self) -> None:
        """Stop reading ahead and waiting for shards; waits up to 2 s for the threads."""
        self._reader.close(_SECONDS_TO_END)
        self._ahead.close(_SECONDS_TO_END)

    def _make(self, first: int) -> TargetBatch:
        tuples = self._share.of(first)
        batch = self._reader.read(tuples.start, tuples.stop)
        return batch.pin_memory() if self._pin else batch
