"""A separate folder for an embedded Ray: its sockets and logs, some 300 KB per run, which Ray never removes.

Only its owner can enter it: Ray lets everybody write to the folder that it is given, so it is given one inside.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from postmean.base.errors import ConfigError
from postmean.base.processes import is_gone, process_started, this_machine
from postmean.fleet.ray_processes import end_processes

_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What Ray appends to the folder's path: date, time and process id."""
_LONGEST_SOCKET = 107
"""Bytes in the path of a unix socket, on Linux."""
_INSIDE = "r"
"""The part that is Ray's; who looks at the mark outside of it is no process of Ray."""
_NAME = f"ray-01234567/{_INSIDE}"
_REMOVE_SECONDS = 5.0
_IN_USE = "in-use"
"""A file in the folder that names the process that uses it. The process keeps it locked (flock), and the kernel
releases the lock at its death. Where there are no locks, the process is looked for instead."""
_open: set[str] = set()
"""Folders that this process uses."""


@contextmanager
def ray_folder() -> Iterator[str]:
    """The absolute path to give to Ray; the folder and its contents are removed at the end of the block.

    Folders left by killed runs are removed too, and what still runs of theirs is ended.

    The folder is made where Ray would make its own: in RAY_TMPDIR or the system's folder for temporary files. It is
    made in /tmp if that path is too long for Ray's sockets, or if others may rename what is there.

    Raises:
        ConfigError: no folder can be made there.
    """
    root = os.path.abspath(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    try:
        if len(os.fsencode(f"{root}/{_NAME}{_SOCKET}")) > _LONGEST_SOCKET or _is_open_to_all(root):
            root = "/tmp"
        os.makedirs(root, exist_ok=True)
        _remove_left_ones(root)
        folder = tempfile.mkdtemp(prefix="ray-", dir=root)  # with mode 0700
        _open.add(folder)
        lock = _lock(folder)
    except OSError as error:
        raise ConfigError(
            f"{root}: cannot make Ray's folder there: {error.strerror}: set RAY_TMPDIR to a folder on this machine's "
            "disk that may be written"
        ) from error
    try:
        yield f"{folder}/{_INSIDE}"
    finally:
        _remove(folder)
        _open.discard(folder)
        os.close(lock)


def end_at_once() -> None:
    """End all that runs in this process's folders and remove them: for a process that ends without its `finally`."""
    for folder in list(_open):
        end_processes(f"{folder}/{_INSIDE}")
        shutil.rmtree(folder, ignore_errors=True)


def _is_open_to_all(root: str) -> bool:
    """Whether everybody may rename the folders of others there."""
    mode = os.stat(root).st_mode if os.path.isdir(root) else 0
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def _lock(folder: str) -> int:
    """Mark the folder as in use until the returned descriptor is closed."""
    descriptor, path = tempfile.mkstemp(dir=folder)
    os.write(descriptor, f"{this_machine()} {os.getpid()} {process_started(os.getpid())}".encode())
    with suppress(OSError):  # no locks on this file system
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.rename(path, os.path.join(folder, _IN_USE))  # only now: nobody sees it unlocked
    return descriptor


def _remove_left_ones(root: str) -> None:
    for mark in Path(root).glob(f"ray-????????/{_IN_USE}"):
        with suppress(OSError), mark.open("rb+") as file:  # fails for another user's
            if _is_abandoned(file.fileno(), mark):
                end_processes(f"{mark.parent}/{_INSIDE}")
                shutil.rmtree(mark.parent, ignore_errors=True)


def _is_abandoned(descriptor: int, mark: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks
        machine, *process = mark.read_text().split(" ")
        return len(process) == 2 and all(map(str.isdigit, process)) and is_gone(machine, *map(int, process))
    return True


def _remove(folder: str) -> None:
    """Remove the folder as far as possible: Ray's last processes may still write there while they end."""
    until = time.monotonic() + _REMOVE_SECONDS
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder) or time.monotonic() > until:
            return
        time.sleep(0.1)
