"""A folder, tar or zip archive as readable members, listed by name; nothing is ever extracted to a path."""

import bz2
import gzip
import lzma
import os
import posixpath
import tarfile
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from postmean.base.errors import DataError
from postmean.base.progress import NoProgress, ShowProgress

MAX_MEMBER_BYTES = 2**28
"""Largest file that is read, so that one member of a compressed archive cannot fill the memory."""

SPOOL_BYTES = 2**30
"""Members of a compressed tar are held in memory up to this total size, above it in an unnamed temporary file."""

_COMPRESSED = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}
_DAMAGE = (EOFError, OSError, lzma.LZMAError, zlib.error, tarfile.TarError)


class Source(ABC):
    """The files that an importer reads.

    Args:
        path: the folder or archive, as the user named it.
        names: relative POSIX paths of its files, in any order; `self.names` is sorted, without hidden files.
    """

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self.path = path
        self.names = tuple(sorted(name for name in names if _visible(name)))

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Contents of one file; DataError if it cannot be read."""

    def place(self, name: str) -> str:
        """Name of a file in messages."""
        return f"{name} in {self.path}"

    def _check_size(self, name: str, size: int) -> None:
        if size > MAX_MEMBER_BYTES:
            raise DataError(f"{self.place(name)}: {size:,} bytes, too large for an image: remove it from the source")


def open_source(path: Path, progress: ShowProgress = NoProgress) -> Source:
    """Open a folder or archive; its content, not its name, decides which it is.

    Args:
        progress: shows how much of a tar has been read.
    Raises:
        DataError: it does not exist, cannot be read, is neither a folder nor an archive, or is damaged.
    """
    if path.is_dir():
        return FolderSource(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file or folder: check the path") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise DataError(f"{path}: empty file: copy or download it again")
    if head[257:262] == b"ustar" or any(map(head.startswith, _COMPRESSED)):
        return TarSource(path, progress)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ZipSource(path)
    if tarfile.is_tarfile(path):  # an empty tar, or one from before 1988
        return TarSource(path, progress)
    raise DataError(f"{path}: neither a folder nor a tar or zip archive: expected one of these")


class FolderSource(Source):
    """Files below a folder; symbolic links are followed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, self._walk(path))

    def read(self, name: str) -> bytes:
        try:
            with open(self.path / name, "rb") as file:
                self._check_size(name, os.fstat(file.fileno()).st_size)
                return file.read()
        except OSError as error:
            raise DataError(f"{self.place(name)}: cannot be read: {error.strerror}") from error

    def place(self, name: str) -> str:
        return str(self.path / name)

    @staticmethod
    def _walk(path: Path) -> Iterable[str]:
        def fail(error: OSError) -> None:
            raise DataError(f"{error.filename}: cannot be listed: {error.strerror}") from error

        for folder, folders, files in os.walk(path, followlinks=True, onerror=fail):
            for name in folders:
                inner = os.path.join(folder, name)
                if os.path.islink(inner) and Path(folder).resolve().is_relative_to(Path(inner).resolve()):
                    raise DataError(f"{inner}: a symbolic link to a folder that it lies in: remove it")
            prefix = "" if folder == str(path) else f"{Path(folder).relative_to(path).as_posix()}/"
            yield from (prefix + name for name in files)


class ZipSource(Source):
    """Members of a zip archive, stored or deflated."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path}: truncated or damaged zip ({error}): copy or download it again") from error
        self._members = {_clean(m.filename): m for m in self._zip.infolist() if not m.is_dir()}
        super().__init__(path, self._members)

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str) -> bytes:
        member = self._members[name]
        self._check_size(name, member.file_size)
        try:
            return self._zip.read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise DataError(f"{self.place(name)}: cannot be read ({error}): copy or download the zip again") from error


class TarSource(Source):
    """Members of a tar archive: read in place, or if compressed unpacked once from front to back."""

    def __init__(self, path: Path, progress: ShowProgress = NoProgress) -> None:
        self.path = path
        self._progress = progress
        self._members: dict[str, tuple[int, int]] = {}  # name -> offset and size in self._file
        with path.open("rb") as file:
            head = file.read(6)
        opener = next((o for magic, o in _COMPRESSED.items() if head.startswith(magic)), None)
        raw = path.open("rb")
        try:
            if opener is None:
                self._file: IO[bytes] = raw
                self._index(raw, None, raw)
            else:
                self._file = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115
                with raw, opener(raw) as unpacked:
                    self._index(unpacked, self._file, raw)  # type: ignore[arg-type]
                    while unpacked.read(2**20):  # read to the end, which checks the checksum
                        pass
        except _DAMAGE as error:
            raise DataError(f"{path}: truncated or damaged tar ({error}): copy or download it again") from error
        super().__init__(path, self._members)

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, name: str) -> bytes:
        offset, size = self._members[name]
        self._file.seek(offset)
        return self._file.read(size)

    def _index(self, file: IO[bytes], spool: IO[bytes] | None, raw: IO[bytes]) -> None:
        """Find the members of `file`; copy them to `spool` if there is one."""
        total = os.path.getsize(self.path) // 10**6
        watched = _LastRead(file)
        with (
            tarfile.open(fileobj=watched, mode="r:") as tar,  # type: ignore[arg-type]
            self._progress("read archive", total, "MB") as progress,
        ):
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep a kilobyte per member
                name = _clean(member.name)
                if member.islnk() and _clean(member.linkname) in self._members:
                    self._members[name] = self._members[_clean(member.linkname)]
                elif member.islnk() or member.issym() or member.issparse():
                    raise DataError(f"{self.place(name)}: a link or sparse file: make the tar with --dereference")
                elif member.isreg():
                    self._check_size(name, member.size)
                    offset = member.offset_data
                    if spool is not None:
                        offset = _copy(file, member.size, spool)
                    self._members[name] = (offset, member.size)
                progress.update(raw.tell() // 10**6)
        # tarfile takes a damaged or cut header after the first member as the end; the true end is a block of zeros
        if watched.last != bytes(tarfile.BLOCKSIZE):
            raise EOFError("damaged header" if len(watched.last) == tarfile.BLOCKSIZE else "no end mark")


class _LastRead:
    """A file that keeps the bytes of its last read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell, self.seek = file.tell, file.seek
        self.last = b""

    def read(self, size: int) -> bytes:
        self.last = self._file.read(size)
        return self.last


def _copy(file: IO[bytes], size: int, spool: IO[bytes]) -> int:
    """Append the next `size` bytes of `file` to `spool`; returns their offset in it."""
    data = file.read(size)
    if len(data) < size:
        raise EOFError("unexpected end of data")
    try:
        offset = spool.tell()
        spool.write(data)
    except OSError as error:
        raise DataError(
            f"{tempfile.gettempdir()}: no room for the unpacked members ({error.strerror}): set TMPDIR to a larger disk"
        ) from error
    return offset


def _clean(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/")).strip("/")


def _visible(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
