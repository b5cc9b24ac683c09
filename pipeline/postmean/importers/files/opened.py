"""A source whose archives are open: `a.tar` is the folder `a`, `b.gz` the file `b`."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import IO

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.base.progress import NoProgress, ShowProgress
from postmean.importers import limits
from postmean.importers.files.archives import is_archive, open_archive, stem
from postmean.importers.files.compressed import CompressedFile
from postmean.importers.files.source import Source, check_count
from postmean.importers.files.tar_archive import TarSource


class OpenedArchives(Source):
    """The files of another source, and those in its archives.

    `tars` has the folders that stand for tars.

    Raises:
        DataError: an archive is damaged, or two files come to have one name.
    """

    def __init__(self, outer: Source, progress: ShowProgress = NoProgress, depth: int = limits.MAX_DEPTH) -> None:
        self.path, self.budget = outer.path, outer.budget
        self._outer = outer
        self._inner: dict[str, Source] = {}  # folder, or file, that stands for an archive -> the archive
        self._recent: OrderedDict[str, None] = OrderedDict()
        names: list[str] = []
        folders = list(outer.folders)
        hidden: list[str] = []
        archives = [name for name in outer.names if is_archive(name)]
        with ExitStack() as stack, progress("open archives", len(archives), "archives") as shown:
            stack.callback(self.close)
            for done, name in enumerate(archives):
                show = progress if len(archives) == 1 else NoProgress
                place = outer.place(name)
                inner = open_archive(
                    place, partial(outer.open, name), outer.size(name), outer.budget, limits.COPY_BYTES, show
                )
                if inner is None:
                    raise DataError(f"{place}: not an archive, as its name says: remove it or rename it")
                if depth > 1 and not inner.images and any(map(is_archive, inner.names)):
                    inner = OpenedArchives(inner, NoProgress, depth - 1)
                at = stem(name)
                if at in self._inner:
                    raise DataError(f"{place}: there is another archive {printable(at)}: remove one of them")
                self._inner[at] = inner
                self._used(at)
                single = isinstance(inner, CompressedFile)
                names += [at] if single else [f"{at}/{member}" for member in inner.names]
                folders += [] if single else [at, *(f"{at}/{folder}" for folder in inner.folders)]
                hidden += [f"{at}/{member}" for member in inner.hidden]
                check_count(self.path, len(names) + len(folders))
                shown.update(done + 1)
            names += [name for name in outer.names if not is_archive(name)]
            if len(set(names)) < len(names):
                twice = next(name for i, name in enumerate(sorted(names)) if name == sorted(names)[i + 1])
                raise DataError(f"{self.path}: {printable(twice)} is there and in an archive: remove one of them")
            super().__init__(outer.path, names, folders)
            stack.pop_all()
        self.tars = tuple(sorted(self._tars()))
        self.hidden = tuple(sorted([*outer.hidden, *hidden]))

    def _tars(self) -> Iterator[str]:
        for at, inner in self._inner.items():
            if isinstance(inner, TarSource):
                yield at
            elif isinstance(inner, OpenedArchives):
                yield from (f"{at}/{tar}" for tar in inner.tars)

    def close(self) -> None:
        self._outer.close()
        for inner in self._inner.values():
            inner.close()

    def size(self, name: str) -> int:
        source, inner = self._found(name)
        return source.size(inner)

    def stream(self, name: str) -> IO[bytes]:
        source, inner = self._found(name)
        return source.stream(inner)

    def open(self, name: str) -> IO[bytes]:
        source, inner = self._found(name)
        return source.open(inner)

    def read(self, name: str) -> bytes:
        source, inner = self._found(name)
        return source.read(inner)

    def read_each(self, names: Iterable[str]) -> Iterator[bytes]:
        if not self._inner:
            return self._outer.read_each(names)
        return map(self.read, names)

    def place(self, name: str) -> str:
        source, inner = self._found(name)
        return source.place(inner)

    def _found(self, name: str) -> tuple[Source, str]:
        """The source that has a file, and the file's name in it."""
        at = len(name)
        while at > 0:
            if (inner := self._inner.get(name[:at])) is not None:
                self._used(name[:at])
                return inner, inner.names[0] if at == len(name) else name[at + 1 :]
            at = name.rfind("/", 0, at)
        return self._outer, name

    def _used(self, at: str) -> None:
        """Note that an archive is in use, and close the one that has not been for longest if many are open."""
        self._recent[at] = None
        self._recent.move_to_end(at)
        if len(self._recent) > limits.OPEN_ARCHIVES:
            oldest, _ = self._recent.popitem(last=False)
            self._inner[oldest].close()
