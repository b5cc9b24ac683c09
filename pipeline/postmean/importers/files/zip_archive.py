"""Members of a zip archive as a source."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from postmean.base.errors import DataError
from postmean.base.one_line import brief
from postmean.importers.files.budget import Budget, DamagedArchiveError
from postmean.importers.files.source import Source, clean


class ZipSource(Source):
    """Members of a zip archive, stored or deflated.

    Args:
        path: names the archive in messages.
        archive: opens it.
        budget: what it may unpack to.
    """

    def __init__(self, path: Path | str, archive: Callable[[], IO[bytes]], budget: Budget) -> None:
        self.path, self.budget = path, budget
        self._archive = archive
        self._zip: zipfile.ZipFile | None = None
        try:
            members = self._opened().infolist()
        except Exception as error:  # a damaged zip fails in any way
            raise DataError(f"{path}: truncated or damaged zip ({brief(error)}): copy or download it again") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        folders = []
        for member in members:
            name = clean(member.filename)
            if member.is_dir():
                folders.append(name)
            elif name in self._members:
                raise DataError(f"{path}: {brief(name)} is there twice: make the zip again without one of them")
            else:
                self._members[name] = member
        try:
            budget.spend(sum(m.file_size for m in self._members.values()))
        except DamagedArchiveError as error:
            raise DataError(
                f"{path}: its members are far larger than the zip: no data set compresses so well"
            ) from error
        super().__init__(path, self._members, folders)

    def close(self) -> None:
        if self._zip is not None:
            file = self._zip.fp
            self._zip.close()
            if file is not None:
                file.close()
            self._zip = None

    def _opened(self) -> zipfile.ZipFile:
        if self._zip is None:
            file = self._archive()
            try:
                self._zip = zipfile.ZipFile(file)
            except BaseException:
                file.close()
                raise
        return self._zip

    def size(self, name: str) -> int:
        return self._members[name].file_size

    def stream(self, name: str) -> IO[bytes]:
        try:
            return self._opened().open(self._readable(name))
        except DataError:
            raise
        except Exception as error:
            raise self._damaged(name, error) from error

    def read(self, name: str) -> bytes:
        self._check_size(name, self._members[name].file_size)
        try:
            return self._opened().read(self._readable(name))
        except DataError:
            raise
        except Exception as error:
            raise self._damaged(name, error) from error

    def open(self, name: str) -> IO[bytes]:
        try:
            return super().open(name)
        except (zipfile.BadZipFile, EOFError, RuntimeError) as error:
            raise self._damaged(name, error) from error

    def _readable(self, name: str) -> zipfile.ZipInfo:
        member = self._members[name]
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # other methods unpack without a bound: a few kilobytes become gigabytes at once
            raise DataError(f"{self.place(name)}: neither stored nor deflated: make the zip again with `zip -r`")
        return member

    def _damaged(self, name: str, error: Exception) -> DataError:
        return DataError(f"{self.place(name)}: cannot be read ({brief(error)}): copy or download the zip again")
