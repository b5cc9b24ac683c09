"""Files and folders that appear whole or not at all: written under a temporary name, made durable, then renamed.

A temporary name is hidden and random, so no two writers share one. Each belongs to a file that its writer holds
locked (flock). The kernel releases the lock when the writer dies, whatever container or PID namespace it was in: a
temporary file that nobody locks is a leftover. On a file system without locks nobody can tell, and leftovers stay:
they cost their bytes and are never read.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER = ".d"  # added to the name of the locked file: the temporary folder that belongs to it
_SYNCS = 16  # files made durable at once: the disk then writes many of them in one go


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, replacing what was there; durable when it returns.

    Makes the folders above it. Removes what killed writers of the same path left.
    """
    with temporary_file(path) as temporary:
        temporary.write_bytes(data)
        move_into_place(temporary, path)


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, to be written to; gone afterwards unless `move_into_place` was called."""
    remove_leftovers(path.parent, path.name)
    with locked_file(path) as temporary:
        yield temporary


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`; gone afterwards unless `move_into_place` was called."""
    remove_leftovers(path.parent, path.name)
    with locked_file(path) as lock:
        temporary = _folder_of(lock)
        temporary.mkdir()
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def move_into_place(temporary: Path, path: Path) -> None:
    """Make a file, or a folder with all that is in it, durable and rename it to `path`.

    A file replaces what was there; a folder cannot replace another one that holds anything (OSError).
    """
    if temporary.is_dir():
        with ThreadPoolExecutor(_SYNCS) as pool:
            list(pool.map(sync, temporary.rglob("*")))
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def remove_leftovers(folder: Path, name: str | None = None) -> int:
    """Remove the temporary files and folders in `folder` whose writers died; returns how many.

    Args:
        name: only those of this file or folder, for a folder that others write to as well.
    """
    pattern = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.[0-9a-f]{{16}}\.tmp")
    try:
        leftovers = [path for path in folder.iterdir() if pattern.fullmatch(path.name)]
    except OSError:
        return 0  # no such folder yet, or not to be listed
    removed = 0
    for path in leftovers:
        with suppress(OSError):  # of another user: it stays
            removed += remove_if_abandoned(path)
    return removed


def remove_if_abandoned(temporary: Path) -> bool:
    """Remove a temporary file, and the folder that belongs to it, if its writer died; whether it did.

    Raises:
        OSError: it may not be removed, or is no regular file.
    """
    with suppress(FileNotFoundError):
        descriptor = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if _lock(descriptor, fcntl.LOCK_NB):
                if _folder_of(temporary).exists():
                    shutil.rmtree(_folder_of(temporary))
                os.unlink(temporary)
                return True
        finally:
            os.close(descriptor)
    return False


@contextmanager
def locked_file(path: Path) -> Iterator[Path]:
    """An empty temporary file beside `path`, locked until the end, when it is removed if it is still there."""
    make_folder(path.parent)
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        _lock(descriptor)  # where there are no locks, remove_if_abandoned leaves the file alone
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # remove_if_abandoned took it before it was locked
    try:
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        os.close(descriptor)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that a writer has not finished."""
    return name.startswith(".") and name.endswith(".tmp")


def make_folder(folder: Path) -> None:
    """Make the folder and those above it, durably."""
    if not folder.is_dir():
        make_folder(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
            sync(folder.parent)


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # what some file systems say of folders
            raise
    finally:
        os.close(descriptor)


def _folder_of(lock: Path) -> Path:
    return lock.with_name(lock.name + _FOLDER)


def _lock(descriptor: int, flags: int = 0) -> bool:
    """Whether the file is locked now: not where another process holds it, nor on a file system without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
    except OSError:  # ENOSYS, EOPNOTSUPP or ENOLCK as on Lustre without -o flock and NFS without a lock daemon
        return False
    return True
