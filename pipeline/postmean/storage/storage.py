"""Interface of the storage of a run's files: objects under one root, each written whole or not at all."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from postmean.base.errors import ShardError
from postmean.base.files import is_temporary


class Reader(Protocol):
    """Reads objects by relative POSIX path.

    Every method raises ShardError on a path that could lead out of the root, because paths come from manifests and
    commit records, which are not trusted. It raises StorageError if an object store refuses or cannot be reached.
    """

    url: str
    """Argument with which `open_reader` opens this storage again, here or on another machine that sees it."""

    def get(self, path: str) -> bytes:
        """The whole object; ShardError with its name if it is missing or unreadable."""
        ...

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`; ShardError if the object is shorter, missing or unreadable."""
        ...

    def exists(self, path: str) -> bool:
        """Whether the object exists."""
        ...

    def size(self, path: str) -> int:
        """Bytes of the object; ShardError if it is missing or unreadable."""
        ...


@runtime_checkable
class Storage(Reader, Protocol):
    """Also writes, lists and deletes objects.

    Writing raises GenerationError if the disk is full or not writable.
    """

    def put(self, path: str, data: bytes) -> None:
        """Write the whole object or nothing, replacing any previous one; durable when it returns."""
        ...

    def put_file(self, path: str, file: Path, progress: Callable[[int], None] = lambda done: None) -> None:
        """Like `put`, of a local file of any size.

        Args:
            progress: called with the number of bytes sent so far.
        """
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Like `put`, but if the object exists, write nothing and return False."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Sorted paths, relative to the root, of all objects in and below the folder `prefix` ("" for the root)."""
        ...

    def each(self, prefix: str) -> Iterator[str]:
        """The paths of `list` one by one, in any order: a million of them take no memory."""
        ...

    def delete(self, path: str) -> None:
        """Remove the object; no error if it is absent."""
        ...

    def clean_temporary(self) -> int:
        """Remove leftovers of dead writers, but nothing still being written; returns how many were removed."""
        ...


def check_path(path: str) -> str:
    """Return the path if it is relative, normalised, below its root and not a temporary file's.

    Raises:
        ShardError: any other path, such as an absolute one or one with `..`, a backslash or NUL.
    """
    parts = path.split("/")
    if not all(parts) or "." in parts or ".." in parts or "\\" in path or "\0" in path or is_temporary(parts[-1]):
        raise ShardError(f"{path!r}: not a path of a run's file (relative, no '..'): the run was tampered with")
    return path
