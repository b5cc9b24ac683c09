"""Folders that a node keeps of what lies elsewhere: fetched once, used by all processes, evicted to make room.

    CACHE/NAME/.use       locked (flock, shared) by every process that uses the folder
    CACHE/NAME/.fetch     locked by the process that fetches into it; others wait
    CACHE/NAME/...        what was fetched

The kernel releases the locks of a process that dies, in any container. A folder that nobody has locked is not in use.
On a file system without locks no folder is known to be unused, so none is evicted, and processes do not wait for each
other: they may write the same bytes twice.
"""

import fcntl
import os
import re
import secrets
import shutil
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from postmean.base.environment import STORE_CACHE, STORE_CACHE_BYTES, store_cache, store_cache_bytes
from postmean.base.errors import DataError
from postmean.base.files import is_temporary, make_folder
from postmean.base.progress import byte_size

_RESERVE = 64 << 20  # bytes of the disk to leave free
_POLL_SECONDS = 0.2
_USE, _FETCH = ".use", ".fetch"


class CachedFolder:
    """A folder of the cache, in use as long as this object lives.

    Args:
        name: of the folder; what the name stands for never changes.
    Raises:
        DataError: the cache cannot be written.
    """

    def __init__(self, name: str) -> None:
        self.path = store_cache() / re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")
        with writing(self.path):
            weakref.finalize(self, os.close, _use(self.path))

    @contextmanager
    def fetching(self, waits: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Only one process or thread of the node is in here at a time; the others wait.

        Args:
            waits: called several times a second while another one is; False ends the wait, because that one seems
                to be frozen. Whatever is done in here must be harmless if done twice at the same time.
        """
        with writing(self.path):
            descriptor = os.open(self.path / _FETCH, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            while not _locked(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) and waits():
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def make_room(self, size: int) -> None:
        """Evict unused folders, the one last used longest ago first, until `size` more bytes fit.

        Raises:
            DataError: they do not fit even then.
        """
        root, limit = self.path.parent, store_cache_bytes()
        _remove_leftovers(root)
        unused = _by_last_use(root, but=self.path)
        while True:
            free, kept = shutil.disk_usage(root).free - _RESERVE, folder_bytes(root)
            if size <= free and (limit is None or kept + size <= limit):
                return
            if not unused:
                break
            _evict(unused.pop(0))
        if limit is not None and kept + size > limit:
            raise DataError(
                f"{root}: {byte_size(size)} more are needed, {byte_size(kept)} are in use, and "
                f"{STORE_CACHE_BYTES} allows {byte_size(limit)}: raise it"
            )
        raise DataError(
            f"{root}: {byte_size(size)} are needed, {byte_size(max(0, free))} are free: free space, or set "
            f"{STORE_CACHE} or --store-cache to a folder on a larger disk"
        )


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn an OSError (disk full, not writable) into a DataError of one line."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{place}: cannot write: {error.strerror or error}: make it writable, free space, or set {STORE_CACHE} "
            "or --store-cache to another folder"
        ) from error


def folder_bytes(folder: Path) -> int:
    """Bytes that all files below a folder take on the disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


def _use(folder: Path) -> int:
    """Make the folder, lock its `.use` and note the time; the open descriptor."""
    while True:
        make_folder(folder)
        try:
            descriptor = os.open(folder / _USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # evicted meanwhile
            continue
        _locked(descriptor, fcntl.LOCK_SH)  # waits while it is evicted
        if os.fstat(descriptor).st_nlink:
            with suppress(OSError):  # another user's file
                os.utime(descriptor)
            return descriptor
        os.close(descriptor)


def _by_last_use(root: Path, but: Path) -> list[Path]:
    """Folders of the cache but one, the one last used longest ago first."""

    def last_use(folder: Path) -> float:
        with suppress(OSError):
            return os.stat(folder / _USE).st_mtime
        return 0.0

    folders = [path for path in root.iterdir() if path != but and path.is_dir() and not is_temporary(path.name)]
    return sorted((path for path in folders if (path / _USE).is_file()), key=last_use)


def _evict(folder: Path) -> None:
    """Remove the folder unless a process uses it or it is another user's."""
    with suppress(OSError):
        descriptor = os.open(folder / _USE, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails without locks too
            # under its name, a process that comes now would make files in it that are removed with it
            renamed = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.tmp")
            os.rename(folder, renamed)
            shutil.rmtree(renamed, ignore_errors=True)
        finally:
            os.close(descriptor)


def _remove_leftovers(root: Path) -> None:
    """Remove folders that a killed process was about to remove."""
    for path in root.iterdir():
        if is_temporary(path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _locked(descriptor: int, kind: int) -> bool:
    """Lock the file; False if another process holds it. True on a file system without locks."""
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
