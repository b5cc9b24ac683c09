"""Members of a zip archive as a source."""

import os
import zipfile
from pathlib import Path

from postmean.base.errors import DataError
from postmean.base.one_line import brief
from postmean.importers import limits
from postmean.importers.files.source import Source, clean


class ZipSource(Source):
    """Members of a zip archive, stored or deflated."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except Exception as error:  # a damaged zip fails in any way
            raise DataError(f"{path}: truncated or damaged zip ({brief(error)}): copy or download it again") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        folders = []
        for member in self._zip.infolist():
            name = clean(member.filename)
            if member.is_dir():
                folders.append(name)
            elif name in self._members:
                raise DataError(f"{path}: {brief(name)} is there twice: make the zip again without one of them")
            else:
                self._members[name] = member
        if sum(m.file_size for m in self._members.values()) > limits.most_unpacked(os.path.getsize(path)):
            raise DataError(f"{path}: its members are far larger than the zip: no data set compresses so well")
        super().__init__(path, self._members, folders)

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str) -> bytes:
        member = self._members[name]
        self._check_size(name, member.file_size)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # other methods unpack without a bound: a few kilobytes become gigabytes at once
            raise DataError(f"{self.place(name)}: neither stored nor deflated: make the zip again with `zip -r`")
        try:
            return self._zip.read(member)
        except Exception as error:
            raise DataError(
                f"{self.place(name)}: cannot be read ({brief(error)}): copy or download the zip again"
            ) from error
