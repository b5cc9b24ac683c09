"""What a trainer tells the run that it follows: how far it is, so that generation may go on and old shards may go."""

import threading
from contextlib import suppress
from dataclasses import replace

from postmean.base.errors import PostmeanError
from postmean.shards.positions import Position, write_position
from postmean.storage.storage import Storage

_REPORT_SECONDS = 2.0  # an object store bills each report
_LAST_SECONDS = 2.0  # that a trainer which failed waits for its last report


class PositionReport:
    """Writes the position when it has changed, every few seconds, from a thread of its own.

    Args:
        trainer: name of the trainer in the run.
        position: where it begins.
    """

    def __init__(self, storage: Storage, trainer: str, position: Position) -> None:
        self._storage, self._trainer = storage, trainer
        self._position = position
        self._written: Position | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="postmean-position", daemon=True)

    def start(self) -> None:
        """Report from now on.

        Raises:
            GenerationError, StorageError: the trainer may not write there.
        """
        if not self._thread.is_alive():
            self._write()
            self._thread.start()

    def at(self, next_tuple: int) -> None:
        """The batch before this tuple was taken."""
        self._position = replace(self._position, next_tuple=next_tuple)

    def never_before(self, resume_tuple: int) -> None:
        """The trainer will not go back before this tuple."""
        self._position = replace(self._position, resume_tuple=resume_tuple)

    def close(self, finished: bool) -> None:
        """Report for the last time.

        Args:
            finished: whether the trainer has taken all that it wanted.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._position = replace(self._position, finished=finished)
        self._write()

    def abandon(self) -> None:
        """Report for the last time that there is more to take, if this trainer had begun: it failed.

        Within seconds and without an error: the storage may be what it failed of.
        """

        def close() -> None:
            with suppress(PostmeanError):
                self.close(finished=False)

        if self._written is not None:
            last = threading.Thread(target=close, name="postmean-position", daemon=True)
            last.start()
            last.join(_LAST_SECONDS)

    def _keep_writing(self) -> None:
        while not self._stop.wait(_REPORT_SECONDS):
            try:
                self._write()
            except PostmeanError:
                continue  # the next report says more; the run's own deadline ends a silence

    def _write(self) -> None:
        position = self._position
        if position != self._written:
            write_position(self._storage, self._trainer, position)
            self._written = position
