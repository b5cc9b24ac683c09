"""One trainer at a time on an output folder.

A trainer keeps OUT/trainer.lock locked (flock). The kernel releases the lock when the trainer dies, however it dies.
On a file system without locks (Lustre without -o flock), a second trainer is not noticed.
"""

import errno
import fcntl
import json
import os
import socket
from contextlib import suppress
from pathlib import Path

from postmean.base.errors import DataError, MismatchError
from postmean.base.files import make_folder

LOCK = "trainer.lock"


class OutLock:
    """The lock of an output folder."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._descriptor: int | None = None
        self._made_folder = False

    def take(self) -> None:
        """Lock the folder, which is made if it does not exist.

        Raises:
            MismatchError: another trainer is at work there.
            DataError: the folder cannot be written to.
        """
        path = self._out / LOCK
        try:
            self._made_folder = not self._out.exists()
            make_folder(self._out)
            while self._descriptor is None:
                self._descriptor = self._locked(path)
        except OSError as error:
            raise DataError(f"{self._out}: {error.strerror}: pass an --out folder that you may write to") from error

    def release(self) -> None:
        """Remove the lock, and the folder if nothing was written into it."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            (self._out / LOCK).unlink()
            if self._made_folder:
                self._out.rmdir()
        os.close(self._descriptor)
        self._descriptor = None

    def _locked(self, path: Path) -> int | None:
        """The locked file; None if its holder removed it meanwhile."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    raise MismatchError(self._refusal(os.read(descriptor, 1000))) from None
                # this file system has no locks
            if not os.fstat(descriptor).st_nlink:
                return None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())
            kept, descriptor = descriptor, -1
            return kept
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _refusal(self, content: bytes) -> str:
        who = ""
        with suppress(ValueError, KeyError, TypeError):
            holder = json.loads(content)
            who = f" (host {str(holder['host'])[:80]}, process {int(holder['pid'])})"
        return (
            f"{self._out}: another `postmean train` is at work there{who}: wait for it, stop it, or pass another --out"
        )
