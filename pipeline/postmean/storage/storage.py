"""Storage: where the files of a run live. Objects under one root, each written whole or not at all."""

from typing import Protocol, runtime_checkable

from postmean.base.errors import ShardError
from postmean.base.files import is_temporary


class Reader(Protocol):
    """Objects by relative POSIX path, to be read.

    Every method raises ShardError on a path that could lead out of the root: manifests and commit records name files,
    and come from elsewhere. It raises StorageError where an object store refuses or cannot be reached.
    """

    url: str
    """What `open_reader` opens again, on this machine or another that sees the same storage."""

    def get(self, path: str) -> bytes:
        """The whole object; ShardError naming it where it is missing or unreadable."""
        ...

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`; ShardError where the object has fewer."""
        ...

    def exists(self, path: str) -> bool:
        """Whether the object is there."""
        ...


@runtime_checkable
class Storage(Reader, Protocol):
    """Objects to be written and listed too.

    Writing raises GenerationError where the disk is full or may not be written.
    """

    def put(self, path: str, data: bytes) -> None:
        """Write the whole object or nothing, replacing what was there; durable when it returns."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Like `put`, but only where nothing is there: False, and nothing written, where something is."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Sorted paths, relative to the root, of all objects in the folder `prefix` ("" for all) and below it."""
        ...

    def delete(self, path: str) -> None:
        """Remove the object; one that is absent is fine."""
        ...

    def clean_temporary(self) -> int:
        """Remove what writers that died have left behind; returns how many. What is being written is left alone."""
        ...


def check_path(path: str) -> str:
    """The path, if it is relative, in normal form and stays below its root.

    Raises:
        ShardError: anything else, such as an absolute path, `..`, a backslash or NUL.
    """
    parts = path.split("/")
    if not all(parts) or "." in parts or ".." in parts or "\\" in path or "\0" in path or is_temporary(parts[-1]):
        raise ShardError(f"{path!r}: not a path of a run's file (relative, no '..'): the run was tampered with")
    return path
