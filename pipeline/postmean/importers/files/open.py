"""Opening a source: a folder, an archive, a file, a glob or brace list of these, or a URL."""

import glob
import os
import stat
from pathlib import Path

from postmean.base.errors import DataError
from postmean.base.paths import local_path
from postmean.base.progress import NoProgress, ShowProgress
from postmean.importers.files.archives import is_archive, open_archive
from postmean.importers.files.compressed import CompressedFile
from postmean.importers.files.folder import FolderSource
from postmean.importers.files.patterns import is_pattern, matches
from postmean.importers.files.source import Source
from postmean.importers.files.urls import is_url, open_url


def open_source(source: str | Path, progress: ShowProgress = NoProgress) -> Source:
    """Open what the user named; the content of a file, not its name, decides whether it is an archive.

    Args:
        progress: shows how much of an archive has been read.
    Raises:
        DataError: it does not exist, cannot be read, or is damaged.
        ConfigError: it is no path, pattern or URL.
    """
    if is_url(source):
        return open_url(str(source), progress)
    path = local_path(source)
    if not os.path.lexists(path) and is_pattern(str(path)):
        found = matches(str(path), lambda text: glob.glob(text, recursive=True), os.path.exists)
        if len(found) > 1:
            root = os.path.commonpath([os.path.dirname(os.path.abspath(one)) for one in found])
            chosen = [os.path.relpath(os.path.abspath(one), root) for one in found]
            return FolderSource(Path(root), chosen, path=path)
        path = Path(found[0])
    return _open_local(path, progress)


def _open_local(path: Path, progress: ShowProgress) -> Source:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return FolderSource(path)
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or device may never end
            raise DataError(f"{path}: neither a folder nor a regular file: expected a folder or an archive")
        path.open("rb").close()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file or folder: check the path") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if status.st_size == 0:
        raise DataError(f"{path}: empty file: copy or download it again")
    if not path.name.lower().endswith(".npz"):  # a layout may need the name of the archive of arrays
        archive = open_archive(path, lambda: path.open("rb"), status.st_size, progress=progress)
        if archive is not None and not isinstance(archive, CompressedFile):
            return archive
        if archive is None and is_archive(path.name):
            raise DataError(f"{path}: neither a folder nor a tar or zip archive, as its name says: download it again")
    source = FolderSource(path.parent, [path.name], path=path)
    source.single = True
    return source
