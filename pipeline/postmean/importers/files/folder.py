"""Files below a local folder as a source: all of them, or some by name."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.files.read_ahead import read_ahead
from postmean.importers.files.source import Source, check_count

_READERS = 8
"""Files that are read at once: on a network disk each takes a millisecond."""


class FolderSource(Source):
    """Files below a folder; symbolic links are followed.

    Args:
        root: the folder.
        chosen: relative paths of files and folders below it; None for all.
        path: how the user named them, if not by the folder.
    """

    def __init__(self, root: Path, chosen: Iterable[str] | None = None, path: Path | str | None = None) -> None:
        self._root = root
        files: list[str] = []
        folders: list[str] = []
        for start in [""] if chosen is None else chosen:
            if not start or os.path.isdir(root / start):
                _walk(root, start, files, folders)
                folders += [start] if start else []
            else:
                files.append(start)
        super().__init__(root if path is None else path, files, folders)

    def local_path(self, name: str) -> Path:
        return self._root / name

    def size(self, name: str) -> int:
        try:
            return os.stat(self._root / name).st_size
        except OSError as error:
            raise DataError(f"{self.place(name)}: cannot be read: {error.strerror}") from error

    def stream(self, name: str) -> IO[bytes]:
        try:
            # O_NONBLOCK: a named pipe would wait for its writer
            file = open(os.open(self._root / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: SIM115
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                file.close()
                raise DataError(f"{self.place(name)}: not a regular file: remove it")
            return file
        except OSError as error:
            raise DataError(f"{self.place(name)}: cannot be read: {error.strerror}") from error

    def open(self, name: str) -> IO[bytes]:
        return self.stream(name)

    def read(self, name: str) -> bytes:
        with self.stream(name) as file:
            self._check_size(name, os.fstat(file.fileno()).st_size)
            try:
                return file.read()
            except OSError as error:
                raise DataError(f"{self.place(name)}: cannot be read: {error.strerror}") from error

    def read_each(self, names: Iterable[str]) -> Iterator[bytes]:
        return read_ahead(self.read, names, _READERS)

    def place(self, name: str) -> str:
        return printable(str(self._root / name))


def _walk(root: Path, start: str, files: list[str], folders: list[str]) -> None:
    """Append relative paths of all files below a folder, and of all folders; hidden ones are listed and not entered."""
    # a folder to list, with the identities of those that it lies in: a link to one of them would never end
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [(start, frozenset())]
    while pending:
        folder, above = pending.pop()
        place = os.path.join(root, folder) if folder else str(root)
        try:
            status = os.stat(place)
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                raise DataError(f"{printable(place)}: a symbolic link to a folder that it lies in: remove it")
            with os.scandir(place) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if not entry.is_dir():
                        files.append(name)
                    else:
                        folders.append(name)
                        if not entry.name.startswith("."):
                            pending.append((name, above | {identity}))
        except OSError as error:
            raise DataError(f"{printable(place)}: cannot be listed: {error.strerror}") from error
        check_count(root, len(files) + len(folders))
