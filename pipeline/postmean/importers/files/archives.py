"""Which files are archives, and opening one."""

import posixpath
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from postmean.base.progress import NoProgress, ShowProgress
from postmean.importers import limits
from postmean.importers.files.budget import Budget
from postmean.importers.files.compressed import CompressedFile, opener
from postmean.importers.files.source import Source
from postmean.importers.files.tar_archive import TarSource
from postmean.importers.files.zip_archive import ZipSource

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tbz")
_ZIPS = (".zip", ".npz")
_FILES = (".gz", ".xz", ".bz2")
_SUFFIXES = tuple(sorted((*_TARS, *_ZIPS, *_FILES), key=len, reverse=True))  # .tar.gz before .gz


def is_archive(name: str) -> bool:
    """Whether a file's suffix is that of an archive or compressed file."""
    return name.lower().endswith(_SUFFIXES)


def stem(name: str) -> str:
    """A name without the suffix of an archive."""
    small = name.lower()
    return next((name[: -len(suffix)] for suffix in _SUFFIXES if small.endswith(suffix)), name)


def open_archive(
    path: Path | str,
    archive: Callable[[], IO[bytes]],
    size: int,
    budget: Budget | None = None,
    spool: int = limits.SPOOL_BYTES,
    progress: ShowProgress = NoProgress,
) -> Source | None:
    """The members of a file that is a tar, a zip or a compressed file; its content, not its name, decides which.

    Args:
        path: names it in messages.
        archive: opens it.
        size: its size in bytes.
        budget: what the archive that it lies in may still unpack to.
        spool: see `TarSource`.
    Returns:
        None if it is none of these.
    Raises:
        DataError: it is damaged.
    """
    with archive() as file:
        head = file.read(tarfile.BLOCKSIZE)
        unpack = opener(head)
        if unpack is not None:
            file.seek(0)
            head = _unpacked_head(file, unpack)
    budget = budget or Budget(size)
    if unpack is None and head is not None and head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ZipSource(path, archive, budget)
    if head is None or head[257:262] == b"ustar" or _is_old_tar(head):
        return TarSource(path, archive, size, budget, spool, progress)
    if unpack is not None:
        return CompressedFile(path, archive, posixpath.basename(stem(str(path))), budget)
    return None


def _unpacked_head(file: IO[bytes], unpack: Callable[..., IO[bytes]]) -> bytes | None:
    """The first bytes of a compressed file, None if it is damaged."""
    try:
        with unpack(file) as stream:
            return stream.read(tarfile.BLOCKSIZE)
    except Exception:  # any bytes may come here
        return None


def _is_old_tar(head: bytes) -> bool:
    """Whether the first block is that of an empty tar, or of one from before 1988."""
    if head == bytes(tarfile.BLOCKSIZE):
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except Exception:
        return False
    return True
