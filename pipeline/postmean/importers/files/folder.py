"""Files below a folder as a source."""

import os
import stat
from pathlib import Path

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.files.source import Source, check_count


class FolderSource(Source):
    """Files below a folder; symbolic links are followed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, *_walk(path))

    def read(self, name: str) -> bytes:
        try:
            # O_NONBLOCK: a named pipe would wait for its writer
            with open(os.open(self.path / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise DataError(f"{self.place(name)}: not a regular file: remove it")
                self._check_size(name, status.st_size)
                return file.read()
        except OSError as error:
            raise DataError(f"{self.place(name)}: cannot be read: {error.strerror}") from error

    def place(self, name: str) -> str:
        return printable(str(self.path / name))


def _walk(root: Path) -> tuple[list[str], list[str]]:
    """Relative paths of all files, and of all folders; hidden folders are listed and not entered."""
    files: list[str] = []
    folders: list[str] = []
    # a folder to list, with the identities of those that it lies in: a link to one of them would never end
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
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
    return files, folders
