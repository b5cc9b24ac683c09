"""Members of a tar archive as a source."""

import bz2
import gzip
import lzma
import os
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any

from postmean.base.errors import DataError
from postmean.base.one_line import brief
from postmean.base.progress import NoProgress, ShowProgress
from postmean.importers import limits
from postmean.importers.files.source import Source, clean
from postmean.importers.files.tar_headers import DamagedTarError, HeaderReader, Readable, Unpacked

COMPRESSED = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}
"""First bytes of a compressed tar -> what opens it."""


class TarSource(Source):
    """Members of a tar archive: read in place, or if compressed unpacked once from front to back."""

    def __init__(self, path: Path, progress: ShowProgress = NoProgress) -> None:
        self.path = path
        self._progress = progress
        self._members: dict[str, tuple[int, int]] = {}  # name -> offset and size in self._file
        self._folders: list[str] = []
        with path.open("rb") as file:
            head = file.read(6)
        opener = next((o for magic, o in COMPRESSED.items() if head.startswith(magic)), None)
        raw = path.open("rb")
        self._file: IO[bytes] = raw if opener is None else tempfile.SpooledTemporaryFile(limits.SPOOL_BYTES)  # noqa: SIM115
        try:
            if opener is None:
                self._index(raw, None, raw)
            else:
                with raw, opener(raw) as stream:
                    unpacked = Unpacked(stream, os.path.getsize(path))  # type: ignore[arg-type]
                    self._index(unpacked, self._file, raw)
                    while unpacked.read(2**20):  # read to the end, which checks the checksum
                        pass
            super().__init__(path, self._members, self._folders)
        except DataError:
            self._file.close()
            raise
        except Exception as error:  # tarfile fails in any way on a damaged header
            self._file.close()
            raise DataError(f"{path}: truncated or damaged tar ({brief(error)}): copy or download it again") from error

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, name: str) -> bytes:
        offset, size = self._members[name]
        self._file.seek(offset)
        return self._file.read(size)

    def _index(self, file: Readable, spool: IO[bytes] | None, raw: IO[bytes]) -> None:
        """Find the members of `file`; copy them to `spool` if there is one."""
        total = os.path.getsize(self.path) // 10**6
        headers: Any = HeaderReader(file)
        with tarfile.open(fileobj=headers, mode="r:") as tar, self._progress("read archive", total, "MB") as progress:
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
            raise DamagedTarError("damaged header" if len(headers.last) == tarfile.BLOCKSIZE else "no end mark")

    def _take(self, member: tarfile.TarInfo, file: Readable, spool: IO[bytes] | None) -> None:
        """Note where one member is."""
        name = clean(member.name)
        if member.size < 0 or len(name) > limits.MAX_NAME_BYTES:
            raise DamagedTarError("a negative size" if member.size < 0 else "a name of more than 4,096 characters")
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
            self._check_size(name, member.size)
            self._members[name] = (member.offset_data, member.size)
            if spool is not None:
                self._members[name] = (_copy(file, member.size, spool), member.size)


def _copy(file: Readable, size: int, spool: IO[bytes]) -> int:
    """Append the next `size` bytes of `file` to `spool`; returns their offset in it."""
    data = file.read(size)
    if len(data) < size:
        raise DamagedTarError("unexpected end of data")
    try:
        offset = spool.tell()
        spool.write(data)
    except OSError as error:
        raise DataError(
            f"{tempfile.gettempdir()}: no room for the unpacked members ({error.strerror}): set TMPDIR to a larger disk"
        ) from error
    return offset
