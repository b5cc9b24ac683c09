"""A separate folder for an embedded Ray: its sockets and logs, some 300 KB per run, which Ray never removes."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from postmean.base.errors import ConfigError

_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What Ray appends to the folder's path: date, time and process id."""
_LONGEST_SOCKET = 107
"""Bytes in the path of a unix socket, on Linux."""
_NAME = "ray-01234567"
_REMOVE_SECONDS = 5.0
_IN_USE = "in-use"
"""A file in the folder, locked (flock) while the run lives; if the run is killed, the kernel releases the lock."""


@contextmanager
def ray_folder() -> Iterator[str]:
    """The folder's absolute path; the folder and its contents are removed at the end of the block.

    Folders left by killed runs are removed too.

    The folder is made where Ray would make its own, in RAY_TMPDIR or the system's folder for temporary files, or in
    /tmp if that path is too long for Ray's sockets.

    Raises:
        ConfigError: no folder can be made there.
    """
    root = os.path.abspath(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    if len(os.fsencode(f"{root}/{_NAME}{_SOCKET}")) > _LONGEST_SOCKET:
        root = "/tmp"
    try:
        os.makedirs(root, exist_ok=True)
        _remove_left_ones(root)
        folder = tempfile.mkdtemp(prefix="ray-", dir=root)
        lock = _lock(folder)
    except OSError as error:
        raise ConfigError(
            f"{root}: cannot make Ray's folder there: {error.strerror}: set RAY_TMPDIR to a folder on this machine's "
            "disk that may be written"
        ) from error
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def _lock(folder: str) -> int:
    """Mark the folder as in use until the returned descriptor is closed."""
    descriptor, path = tempfile.mkstemp(dir=folder)
    with suppress(OSError):  # without locks nobody removes leftovers
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.rename(path, os.path.join(folder, _IN_USE))  # only now: nobody sees it unlocked
    return descriptor


def _remove_left_ones(root: str) -> None:
    for mark in Path(root).glob(f"ray-????????/{_IN_USE}"):
        try:
            with mark.open("rb+") as file:  # fails for another user's
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(mark.parent, ignore_errors=True)
        except OSError:
            continue  # in use, or gone by now


def _remove(folder: str) -> None:
    """Remove the folder as far as possible: Ray's last processes may still write there while they end."""
    until = time.monotonic() + _REMOVE_SECONDS
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder) or time.monotonic() > until:
            return
        time.sleep(0.1)
