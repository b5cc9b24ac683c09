"""Opening a source: a folder, tar or zip archive."""

import os
import stat
import tarfile
from pathlib import Path

from postmean.base.errors import DataError
from postmean.base.progress import NoProgress, ShowProgress
from postmean.importers.files.folder import FolderSource
from postmean.importers.files.source import Source
from postmean.importers.files.tar_archive import COMPRESSED, TarSource
from postmean.importers.files.zip_archive import ZipSource


def open_source(path: Path, progress: ShowProgress = NoProgress) -> Source:
    """Open a folder or archive; its content, not its name, decides which it is.

    Args:
        progress: shows how much of a tar has been read.
    Raises:
        DataError: it does not exist, cannot be read, is neither a folder nor an archive, or is damaged.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return FolderSource(path)
        if not stat.S_ISREG(mode):  # reading a pipe or device may never end
            raise DataError(f"{path}: neither a folder nor a regular file: expected a folder or an archive")
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file or folder: check the path") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise DataError(f"{path}: empty file: copy or download it again")
    if head[257:262] == b"ustar" or any(map(head.startswith, COMPRESSED)):
        return TarSource(path, progress)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ZipSource(path)
    if _is_old_tar(head):
        return TarSource(path, progress)
    raise DataError(f"{path}: neither a folder nor a tar or zip archive: expected one of these")


def _is_old_tar(head: bytes) -> bool:
    """Whether the first block is that of an empty tar, or of one from before 1988."""
    if head == bytes(tarfile.BLOCKSIZE):
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except Exception:  # any bytes may come here
        return False
    return True
