"""Reports how far a trainer is to the run it follows, which then makes more shards and may delete old ones."""

import threading
from contextlib import suppress
from dataclasses import replace

from postmean.base.errors import PostmeanError
from postmean.shards.positions import Position, write_position
from postmean.storage.storage import Storage

_REPORT_SECONDS = 2.0  # between reports; an object store bills each
_LAST_SECONDS = 2.0  # longest wait for the last report of a failed trainer


class PositionReport:
    """Writes the position from its own thread, every 2 s if it has changed.

    Args:
        trainer: name of the trainer in the run.
        position: where the trainer begins.
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
        """Record that the batch before this tuple was taken."""
        self._position = replace(self._position, next_tuple=next_tuple)

    def never_before(self, resume_tuple: int) -> None:
        """Record that the trainer will not go back before this tuple."""
        self._position = replace(self._position, resume_tuple=resume_tuple)

    def close(self, finished: bool) -> None:
        """Report for the last time.

        Args:
            finished: whether the trainer has taken all tuples it wanted.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._position = replace(self._position, finished=finished)
        self._write()

    def abandon(self) -> None:
        """Last report of a failed trainer: not finished. Writes nothing if the trainer never reported.

        Takes at most 2 s and raises nothing: the storage may be the cause of the failure.
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
                continue  # the next report includes this one; the run has its own deadline for silent trainers

    def _write(self) -> None:
        position = self._position
        if position != self._written:
            write_position(self._storage, self._trainer, position)
            self._written = position
