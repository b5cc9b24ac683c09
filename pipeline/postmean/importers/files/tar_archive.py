"""Members of a tar archive as a source."""

import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from postmean.base.errors import DataError
from postmean.base.one_line import brief
from postmean.base.progress import NoProgress, ShowProgress
from postmean.importers import limits
from postmean.importers.files.budget import Budget, DamagedArchiveError
from postmean.importers.files.compressed import opener
from postmean.importers.files.slice import slice_of
from postmean.importers.files.source import Source, clean, no_room
from postmean.importers.files.tar_headers import HeaderReader, Readable, Unpacked


class TarSource(Source):
    """Members of a tar archive: read in place, or if compressed unpacked once from front to back.

    Args:
        path: names the archive in messages.
        archive: opens it.
        size: its size in bytes.
        budget: what it may unpack to.
        spool: bytes that a compressed one unpacks to in memory, before it goes on in a temporary file.
    """

    def __init__(
        self,
        path: Path | str,
        archive: Callable[[], IO[bytes]],
        size: int,
        budget: Budget,
        spool: int = limits.SPOOL_BYTES,
        progress: ShowProgress = NoProgress,
    ) -> None:
        self.path, self.budget = path, budget
        self._archive, self._size, self._spool, self._progress = archive, size, spool, progress
        self._members: dict[str, tuple[int, int]] = {}  # name -> offset and size in self._file
        self._folders: list[str] = []
        self._file: IO[bytes] | None = None
        try:
            self._open(budget)
            super().__init__(path, self._members, self._folders)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def size(self, name: str) -> int:
        return self._members[name][1]

    def read(self, name: str) -> bytes:
        offset, size = self._members[name]
        self._check_size(name, size)
        file = self._opened()
        file.seek(offset)
        return file.read(size)

    def stream(self, name: str) -> IO[bytes]:
        return slice_of(self._opened, *self._members[name])

    def open(self, name: str) -> IO[bytes]:
        return self.stream(name)

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._open(Budget(self._size))  # its first opening has been counted
        assert self._file is not None
        return self._file

    def _open(self, budget: Budget) -> None:
        """Find the members, unless they are known, and unpack them if they are compressed."""
        raw = self._archive()
        try:
            head = raw.read(6)
            raw.seek(0)
            unpack = opener(head)
            if unpack is None:
                self._file = raw
                if not self._members:
                    self._index(raw, None, raw)
                return
            self._members = {}
            self._file = tempfile.SpooledTemporaryFile(self._spool)  # noqa: SIM115
            with raw, unpack(raw) as stream:
                unpacked = Unpacked(stream, budget)
                self._index(unpacked, self._file, raw)
                while unpacked.read(2**20):  # read to the end, which checks the checksum
                    pass
        except DataError:
            raise
        except Exception as error:  # tarfile fails in any way on a damaged header
            raise DataError(
                f"{self.path}: truncated or damaged tar ({brief(error)}): copy or download it again"
            ) from error

    def _index(self, file: Readable, spool: IO[bytes] | None, raw: IO[bytes]) -> None:
        """Find the members of `file`; copy them to `spool` if there is one."""
        headers: Any = HeaderReader(file)
        with (
            tarfile.open(fileobj=headers, mode="r:") as tar,
            self._progress("read archive", self._size // 10**6, "MB") as progress,
        ):
            while True:
                headers.next_member()
                member = tar.next()
                if member is None:
                    break
                tar.members = []  # type: ignore[attr-defined]  # it would keep a kilobyte per member
                self._take(member, file, spool)
                progress.update(raw.tell() // 10**6)
        # tarfile takes a damaged or cut header after the first member as the end; the true end is a block of zeros
        if headers.last != bytes(tarfile.BLOCKSIZE):
            raise DamagedArchiveError("damaged header" if len(headers.last) == tarfile.BLOCKSIZE else "no end mark")

    def _take(self, member: tarfile.TarInfo, file: Readable, spool: IO[bytes] | None) -> None:
        """Note where one member is."""
        name = clean(member.name)
        if member.size < 0 or len(name) > limits.MAX_NAME_BYTES:
            raise DamagedArchiveError("a negative size" if member.size < 0 else "a name of more than 4,096 characters")
        if member.isdir():
            self._folders.append(name)
            return
        if not (member.isreg() or member.islnk() or member.issym()):
            return  # a device or pipe: no data
        if name in self._members:
            raise DataError(f"{self.path}: {brief(name)} is there twice: make the tar again without one of them")
        if member.islnk() and clean(member.linkname) in self._members:
            self._members[name] = self._members[clean(member.linkname)]
        elif not member.isreg() or member.issparse():
            raise DataError(f"{self.place(name)}: a link or sparse file: make the tar with --dereference")
        else:
            self._members[name] = (member.offset_data, member.size)
            if spool is not None:
                self._members[name] = (_copy(file, member.size, spool), member.size)


def _copy(file: Readable, size: int, spool: IO[bytes]) -> int:
    """Append the next `size` bytes of `file` to `spool`; returns their offset in it."""
    offset = spool.tell()
    while size > 0:
        data = file.read(min(size, 2**20))
        if not data:
            raise DamagedArchiveError("unexpected end of data")
        try:
            spool.write(data)
        except OSError as error:
            raise no_room(error) from error
        size -= len(data)
    return offset
