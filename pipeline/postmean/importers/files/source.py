"""Interface of a source: the files that a layout reads, listed by name; nothing is ever extracted to a path."""

import posixpath
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Protocol

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers import limits
from postmean.importers.files.budget import Budget
from postmean.importers.pixels.suffixes import is_image

_LITTER = ("__MACOSX", "@eaDir", ".AppleDouble", ".ipynb_checkpoints")
"""Folders that machines put beside images: copies, previews and attributes."""


class Readable(Protocol):
    """A stream, as far as copying it needs it."""

    def read(self, size: int, /) -> bytes: ...


class Source(ABC):
    """The files that a layout reads.

    Args:
        path: the folder, archive or URL, as the user named it.
        names: relative POSIX paths of its files, in any order.
        folders: those of its folders, as far as it lists them.
    Raises:
        DataError: there are too many.
    """

    path: Path | str
    names: tuple[str, ...]
    """Relative paths of the files, sorted, without hidden ones."""
    folders: tuple[str, ...]
    """Relative paths of the folders, with and without files, sorted, without hidden ones."""
    hidden: tuple[str, ...]
    """Hidden folders and hidden images, sorted, without what machines put beside images."""
    single = False
    """Whether the user named one file that is no archive."""
    budget: Budget | None = None
    """What an archive may still unpack to, with the archives inside it; None for files that are not packed."""

    def __init__(self, path: Path | str, names: Iterable[str], folders: Iterable[str]) -> None:
        self.path = path
        seen, hidden, inner = [], set(), set()
        for name in names:
            if (at := _hidden_part(name)) is None:
                seen.append(name)
                inner.add(posixpath.dirname(name))
            else:
                hidden.add(at)
        for folder in folders:
            if (at := _hidden_part(folder)) is None:
                inner.add(folder)
            else:
                hidden.add(f"{at}/")
        check_count(path, len(seen) + len(inner))
        self.names = tuple(sorted(seen))
        self.folders = tuple(sorted(_with_parents(inner)))
        self.hidden = tuple(sorted(name.rstrip("/") for name in hidden if _is_lost(name)))

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what is open; the source opens it again when it is next read."""
        return None

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Those of its files whose suffix is that of an image which is read, sorted."""
        return tuple(filter(is_image, self.names))

    @cached_property
    def bases(self) -> dict[str, list[str]]:
        """Name of a file without its folders -> the files of this name, without images."""
        bases: dict[str, list[str]] = {}
        for name in self.names:
            if not is_image(name):
                bases.setdefault(posixpath.basename(name), []).append(name)
        return bases

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        children: dict[str, list[str]] = {}
        for folder in self.folders:
            parent, _, name = folder.rpartition("/")
            children.setdefault(parent, []).append(name)
        return children

    def folders_in(self, folder: str) -> list[str]:
        """Names of the folders directly inside a folder ("" for the source itself), with and without files, sorted."""
        return sorted(self._children.get(folder, []))

    def local_path(self, name: str) -> Path | None:
        """Where a file lies as it is on this machine; None if it is in an archive or elsewhere."""
        return None

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of one file; DataError if it cannot be known."""

    @abstractmethod
    def stream(self, name: str) -> IO[bytes]:
        """One file of any size, to be read once from front to back; DataError if it cannot be opened."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Contents of one file of at most `limits.MAX_MEMBER_BYTES`; DataError if it cannot be read."""

    def read_each(self, names: Iterable[str]) -> Iterator[bytes]:
        """Contents of many files, in this order."""
        return map(self.read, names)

    def open(self, name: str) -> IO[bytes]:
        """One file of any size, to be read anywhere: a copy in an unnamed temporary file where need be."""
        with self.stream(name) as stream:
            return spooled(stream)

    def place(self, name: str) -> str:
        """Name of a file in messages."""
        return f"{printable(name)} in {self.path}"

    def _check_size(self, name: str, size: int) -> None:
        if size > limits.MAX_MEMBER_BYTES:
            raise DataError(f"{self.place(name)}: {size:,} bytes, too large for an image: remove it from the source")


def spooled(stream: Readable) -> IO[bytes]:
    """A copy of a stream: in memory if it is small, else in an unnamed temporary file.

    Raises:
        DataError: there is no room for it.
    """
    copy: IO[bytes] = tempfile.SpooledTemporaryFile(limits.COPY_BYTES)  # noqa: SIM115
    try:
        while data := stream.read(2**20):
            copy.write(data)
    except OSError as error:
        copy.close()
        raise no_room(error) from error
    copy.seek(0)
    return copy


def no_room(error: OSError) -> DataError:
    """The error of a full temporary disk."""
    return DataError(
        f"{tempfile.gettempdir()}: no room for the unpacked members ({error.strerror}): set TMPDIR to a larger disk"
    )


def check_count(path: Path | str, count: int) -> None:
    """Raise DataError if a source has too many files and folders."""
    if count > limits.MAX_FILES:
        raise DataError(f"{path}: more than {limits.MAX_FILES:,} files and folders: import it in parts")


def clean(name: str) -> str:
    """The name of an archive's member as a relative path: with /, without . and .. and a leading /."""
    parts = posixpath.normpath(name.replace("\\", "/")).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def _hidden_part(name: str) -> str | None:
    """The path up to its first hidden part, with a / if that is a folder; None if it has no hidden part."""
    if "." not in name and "__MACOSX" not in name and "@eaDir" not in name:
        return None  # most names, quickly
    parts = name.split("/")
    for i, part in enumerate(parts):
        if part.startswith(".") or part in _LITTER:
            return "/".join(parts[: i + 1]) + ("/" if i + 1 < len(parts) else "")
    return None


def _is_lost(hidden: str) -> bool:
    """Whether a hidden part is worth a line: a folder or an image that no machine put there."""
    name = hidden.rstrip("/").split("/")[-1]
    if hidden.endswith("/"):
        return name not in _LITTER
    return is_image(name) and not name.startswith("._")


def _with_parents(folders: set[str]) -> set[str]:
    out: set[str] = set()
    for folder in folders:
        while folder and folder not in out:
            out.add(folder)
            folder = posixpath.dirname(folder)
    return out
