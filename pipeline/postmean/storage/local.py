"""Storage in a local or mounted folder: write to a temporary name, fsync, rename."""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from postmean.base.errors import GenerationError, ShardError
from postmean.base.files import (
    create_file,
    is_temporary,
    locked_file,
    make_folder,
    move_into_place,
    remove_if_abandoned,
    sync,
    write_file_in,
)
from postmean.storage.storage import check_path

T = TypeVar("T")

UNFINISHED = ".unfinished"
"""Folder of the temporary files: leftovers are found without a look at all the files of a run."""


class LocalStorage:
    """A folder. Symbolic links that lead out of it are refused; `list` omits links and special files.

    Temporary files are those of `base/files.py`: `clean_temporary` removes leftovers, but no file still being written.
    They lie in one folder, or beside their targets where that folder is on another file system or of another user.
    """

    def __init__(self, root: Path | str) -> None:
        self._root = os.path.realpath(root)
        self.url = self._root

    def put(self, path: str, data: bytes) -> None:
        target = self._target(path)
        with _write_errors(target):
            self._write(target, lambda folder: write_file_in(folder, target, data))

    def put_file(self, path: str, file: Path, progress: Callable[[int], None] = lambda done: None) -> None:
        target = self._target(path)
        with _write_errors(target):
            self._write(target, lambda folder: _copy(file, folder, target))
        progress(file.stat().st_size)

    def create(self, path: str, data: bytes) -> bool:
        target = self._target(path)
        with _write_errors(target):
            return self._write(target, lambda folder: create_file(target, data, folder=folder))

    def get(self, path: str) -> bytes:
        with self._reading(path) as (descriptor, size):
            return self._read(path, descriptor, 0, size)

    def get_range(self, path: str, start: int, length: int) -> bytes:
        with self._reading(path) as (descriptor, _):
            return self._read(path, descriptor, start, length)

    def exists(self, path: str) -> bool:
        return os.path.isfile(self._source(path))

    def size(self, path: str) -> int:
        with self._reading(path) as (_, size):
            return size

    def list(self, prefix: str) -> list[str]:
        return sorted(self.each(prefix))

    def each(self, prefix: str) -> Iterator[str]:
        return (path for path in self._walk(prefix) if not is_temporary(path.rpartition("/")[2]))

    def delete(self, path: str) -> None:
        target = self._target(path)
        with _write_errors(target), suppress(FileNotFoundError):
            target.unlink()
            sync(target.parent)

    def clean_temporary(self) -> int:
        removed = 0
        for path in self._walk(UNFINISHED):
            with _write_errors(path):
                removed += remove_if_abandoned(Path(self._root, path))
        with suppress(OSError):  # not there, or in use
            os.rmdir(self._source(UNFINISHED))
        return removed

    def _write(self, target: Path, write: Callable[[Path], T]) -> T:
        """Call `write` with the folder for the temporary file of this target."""
        try:
            return write(Path(self._source(UNFINISHED)))
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EACCES, errno.EPERM):
                raise
            return write(target.parent)

    def _walk(self, prefix: str) -> Iterator[str]:
        """Relative paths of regular files, including temporary ones, in any order."""
        folders = [prefix]
        while folders:
            folder = folders.pop()
            try:
                entries = os.scandir(self._source(folder) if folder else self._root)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise ShardError(f"{self._root}/{folder}: cannot list it: {error.strerror}") from error
            with entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path)
                    elif entry.is_file(follow_symlinks=False):
                        yield path

    def _source(self, path: str) -> str:
        """Absolute path to read from, with links resolved."""
        real = os.path.realpath(os.path.join(self._root, check_path(path)))
        if os.path.commonpath([self._root, real]) != self._root:
            raise ShardError(f"{self._root}/{path}: a link that leads out of the run's folder: put the files there")
        return real

    def _target(self, path: str) -> Path:
        """Absolute path to write to: only its folder's links are resolved, since a rename replaces a link."""
        folder, _, name = check_path(path).rpartition("/")
        return Path(self._source(folder) if folder else self._root, name)

    @contextmanager
    def _reading(self, path: str) -> Iterator[tuple[int, int]]:
        source = self._source(path)
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would block
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ShardError(f"{self._root}/{path}: missing") from error
        except OSError as error:
            raise ShardError(f"{self._root}/{path}: cannot read it: {error.strerror}") from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ShardError(f"{self._root}/{path}: not a regular file: the run was tampered with")
            yield descriptor, status.st_size
        finally:
            os.close(descriptor)

    def _read(self, path: str, descriptor: int, start: int, length: int) -> bytes:
        parts = []
        try:
            while length:
                parts.append(os.pread(descriptor, length, start))
                if not parts[-1]:
                    raise ShardError(f"{self._root}/{path}: ends {length} bytes early")
                start, length = start + len(parts[-1]), length - len(parts[-1])
        except OSError as error:
            raise ShardError(f"{self._root}/{path}: cannot read it: {error.strerror}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)


@contextmanager
def _write_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "free space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
        raise GenerationError(f"{path}: cannot write: {error.strerror}: {remedy} and run the same again") from error


def _copy(file: Path, folder: Path, target: Path) -> None:
    """Copy a file to the target whole, with the temporary file in `folder`."""
    with locked_file(target, folder=folder) as temporary:
        shutil.copyfile(file, temporary)
        make_folder(target.parent)
        move_into_place(temporary, target)
