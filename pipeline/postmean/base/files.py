"""Files and folders that appear whole or not at all: written under a temporary name, made durable, then renamed.

A temporary name is hidden and random, so no two writers share one. Its writer keeps the temporary file, or for a
folder a file beside it, locked (flock). The kernel releases the lock when the writer dies, in any container or PID
namespace: an unlocked temporary file is a leftover. A file system without locks cannot tell leftovers from files in
use, so leftovers stay there: they take space and are never read.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER = ".d"  # suffix of a temporary folder, after the name of its locked file
_SYNCS = 16  # files synced at once: the disk then writes many of them in one go
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of os.link on file systems without hard links, such as gcsfuse and some SMB mounts."""


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, replacing any previous one; durable when it returns.

    Creates parent folders. Removes leftovers of killed writers of the same path.
    """
    with temporary_file(path) as temporary:
        temporary.write_bytes(data)
        move_into_place(temporary, path)


def write_file_in(folder: Path, path: Path, data: bytes) -> None:
    """Like `write_file`, with the temporary file in `folder`; removes no leftovers.

    Raises:
        OSError: EXDEV if the folder is on another file system than the path.
    """
    with locked_file(path, folder=folder) as temporary:
        temporary.write_bytes(data)
        make_folder(path.parent)
        move_into_place(temporary, path)


def create_file(path: Path, data: bytes, mode: int = 0o666, folder: Path | None = None) -> bool:
    """Write a file whole unless it exists: False then, and nothing is written. Durable when it returns.

    Of several writers at once, one creates it. Creates parent folders.

    Args:
        mode: permissions, less those that the umask takes away.
        folder: for the temporary file, as in `write_file_in`; None: beside the path.
    """
    with locked_file(path, mode, folder) as temporary:
        temporary.write_bytes(data)
        sync(temporary)
        make_folder(path.parent)
        try:
            os.link(temporary, path)  # unlike rename, fails where the target exists
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if not _create_in_place(path, data, mode):
                return False
        sync(path.parent)
    return True


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """An empty file beside `path` to write to; removed at the end unless `move_into_place` was called."""
    remove_leftovers(path.parent, path.name)
    with locked_file(path) as temporary:
        yield temporary


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`; removed at the end unless `move_into_place` was called."""
    remove_leftovers(path.parent, path.name)
    with locked_file(path) as lock:
        temporary = _folder_of(lock)
        temporary.mkdir()
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def move_into_place(temporary: Path, path: Path) -> None:
    """Make a file, or a folder with all its contents, durable and rename it to `path`.

    A file replaces an existing file; a folder replaces only an empty folder (OSError otherwise).
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
        name: only leftovers of this file or folder; use it in a folder that others write to as well.
    """
    pattern = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.[0-9a-f]{{16}}\.tmp")
    try:
        leftovers = [path for path in folder.iterdir() if pattern.fullmatch(path.name)]
    except OSError:
        return 0  # the folder does not exist yet or cannot be listed
    removed = 0
    for path in leftovers:
        with suppress(OSError):  # another user's file stays
            removed += remove_if_abandoned(path)
    return removed


def remove_if_abandoned(temporary: Path) -> bool:
    """Remove a temporary file and its folder if the writer died; returns whether they were removed.

    Raises:
        OSError: no permission to remove it, or not a regular file.
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
def locked_file(path: Path, mode: int = 0o666, folder: Path | None = None) -> Iterator[Path]:
    """An empty temporary file for `path`, locked until the end; then removed if it is still there.

    Args:
        folder: where it lies; None: beside the path. Others may remove the folder while it is empty.
    """
    folder = folder or path.parent
    while True:
        make_folder(folder)
        temporary = folder / f".{path.name}.{secrets.token_hex(8)}.tmp"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except FileNotFoundError:
            continue
        _lock(descriptor)  # on a file system without locks, remove_if_abandoned leaves the file alone
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # remove_if_abandoned removed it before it was locked
    try:
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        os.close(descriptor)


def is_temporary(name: str) -> bool:
    """Whether this is the name of an unfinished file."""
    return name.startswith(".") and name.endswith(".tmp")


def make_folder(folder: Path) -> None:
    """Create the folder and its parents, durably."""
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
        if error.errno != errno.EINVAL:  # some file systems raise it for folders
            raise
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits: a second per GB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _create_in_place(path: Path, data: bytes, mode: int) -> bool:
    """Create without hard links; False if the file exists.

    Only one writer can create the name, but readers may see a short file: for a moment, or for good if the writer is
    killed in that moment. Only leases and tokens are created this way. A short lease is damaged and belongs to nobody:
    another process takes the next number, and the short lease's writer, if alive, sees the higher number and stops. A
    short token is refused by its readers.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        sync(path)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise
    return True


def _folder_of(lock: Path) -> Path:
    return lock.with_name(lock.name + _FOLDER)


def _lock(descriptor: int, flags: int = 0) -> bool:
    """Lock the file; False if another process holds it (with LOCK_NB) or the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
    except OSError:  # no locks is ENOSYS, EOPNOTSUPP or ENOLCK: Lustre without -o flock, NFS without a lock daemon
        return False
    return True
