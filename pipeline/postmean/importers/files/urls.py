"""Files at URLs as a source, by fsspec: `s3://bucket/set`, `hf://datasets/user/set`, `https://host/train.tar`."""

import posixpath
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from postmean.base.errors import DataError, PostmeanError
from postmean.base.one_line import printable
from postmean.base.progress import NoProgress, ShowProgress
from postmean.importers import limits
from postmean.importers.files.archives import is_archive, open_archive
from postmean.importers.files.compressed import CompressedFile
from postmean.importers.files.patterns import is_pattern, matches
from postmean.importers.files.read_ahead import read_ahead
from postmean.importers.files.slice import slice_of
from postmean.importers.files.source import Source, spooled

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_READERS = 32
_BLOCK = 2**23


def is_url(source: str | Path) -> bool:
    """Whether a source is a URL, `file://` aside."""
    return isinstance(source, str) and bool(_URL.match(source)) and not source.startswith("file://")


def without_secrets(url: str) -> str:
    """A URL without user, password and query, which may be keys."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0] if scheme.startswith('http') else path}"


def open_url(url: str, progress: ShowProgress = NoProgress) -> Source:
    """Open the folder, archive or files at a URL.

    Raises:
        DataError: there is nothing, or it cannot be read.
        ConfigError: no file system for it is installed.
    """
    from postmean.storage.filesystem import open_filesystem  # here: --help need not wait for it
    from postmean.storage.open import OBJECT_STORES

    shown = without_secrets(url)
    scheme = url.partition("://")[0].lower()
    web = scheme in ("http", "https")
    files = open_filesystem(scheme)
    at = files._strip_protocol(url.partition("://")[2] if scheme in OBJECT_STORES else url)
    with _told(shown):
        if is_pattern(url.partition("?")[0] if web else url):
            found = matches(at, files.glob, lambda _: True)
            paths: dict[str, int | None] = dict.fromkeys(found)
            return UrlSource(files, posixpath.commonpath(map(posixpath.dirname, paths)), paths, shown, progress)
        # a page of links counts as a folder of the web only if its address ends so: else it would be downloaded
        if url.endswith("/") if web else files.isdir(at):
            paths = {name: info.get("size") for name, info in files.find(at.rstrip("/"), detail=True).items()}
            return UrlSource(files, at.rstrip("/"), paths, shown, progress)
        if not files.exists(at):
            raise DataError(f"{shown}: no such file or folder: check the URL")
    root = posixpath.dirname(at.partition("?")[0] if web else at)
    source = UrlSource(files, root, {at: None}, shown, progress)
    (name,) = source.names or [""]
    if is_archive(name) and not name.lower().endswith(".npz"):
        archive = open_archive(shown, partial(source.open, name), source.size(name), progress=progress)
        if archive is not None and not isinstance(archive, CompressedFile):
            return archive
    return source


class UrlSource(Source):
    """Files of a file system of fsspec. Archives and tables are copied to unnamed temporary files as they are opened.

    Args:
        files: the file system.
        root: the folder that holds all.
        paths: file in it -> its size in bytes, None if that is not known yet.
        shown: the URL in messages.
    """

    def __init__(
        self, files: Any, root: str, paths: dict[str, int | None], shown: str, progress: ShowProgress = NoProgress
    ) -> None:
        self._files, self._progress = files, progress
        self._paths = {_name(path, root): path for path in paths}
        self._sizes = {_name(path, root): size for path, size in paths.items()}
        self._copies: OrderedDict[str, IO[bytes]] = OrderedDict()
        super().__init__(shown, self._paths, [])

    def close(self) -> None:
        for copy in self._copies.values():
            copy.close()
        self._copies.clear()

    def size(self, name: str) -> int:
        size = self._sizes[name]
        if size is None:
            with _told(self.place(name)):
                size = self._files.info(self._paths[name]).get("size")
            if size is None:  # the server does not say
                with self.open(name) as file:
                    size = file.seek(0, 2)
            self._sizes[name] = size
        return size

    def stream(self, name: str) -> IO[bytes]:
        return self.open(name)

    def open(self, name: str) -> IO[bytes]:
        self._copied(name)
        return slice_of(partial(self._copied, name), 0, self._copied(name).seek(0, 2))

    def read(self, name: str) -> bytes:
        size = self._sizes[name]
        if size is not None:
            self._check_size(name, size)
        with _told(self.place(name)), self._files.open(self._paths[name], "rb", block_size=_BLOCK) as file:
            data = file.read(limits.MAX_MEMBER_BYTES + 1)
        self._check_size(name, len(data))
        return data

    def read_each(self, names: Iterable[str]) -> Iterator[bytes]:
        return read_ahead(self.read, names, _READERS)

    def _copied(self, name: str) -> IO[bytes]:
        """The copy of a file, which may be its only one or have been made before."""
        if name not in self._copies:
            while len(self._copies) >= limits.OPEN_ARCHIVES:
                self._copies.popitem(last=False)[1].close()
            total = (self._sizes[name] or 0) // 10**6
            with (
                _told(self.place(name)),
                self._progress("download", total, "MB") as shown,
                self._files.open(self._paths[name], "rb", block_size=_BLOCK) as file,
            ):
                self._copies[name] = spooled(_Watched(file, lambda done: shown.update(done // 10**6)))
        self._copies.move_to_end(name)
        return self._copies[name]


class _Watched:
    """A stream that tells how far it has been read."""

    def __init__(self, file: Any, tell: Callable[[int], None]) -> None:
        self._file, self._tell, self._at = file, tell, 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._at += len(data)
        self._tell(self._at)
        return data


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Turn whatever a file system raises within the block into one line, which repeats no answer of a server."""
    try:
        yield
    except PostmeanError:
        raise
    except FileNotFoundError:
        raise DataError(f"{place}: no such file or folder: check the URL") from None
    except Exception as error:
        status = getattr(error, "status", None)
        what = f"{type(error).__name__}{f' {status}' if isinstance(status, int) else ''}"
        raise DataError(f"{place}: cannot be read ({what}): check the URL, the network and your credentials") from None


def _name(path: str, root: str) -> str:
    """The name of a file relative to the root, without the query of a web address."""
    inner = path.removeprefix(root).lstrip("/")
    return printable(unquote(urlsplit(inner).path)) if path.startswith("http") else inner
