"""Requests to an object store or HTTP server through obstore, retried with back-off; errors are one line."""

from collections.abc import Callable
from typing import Any, TypeVar

import obstore

from postmean.base.errors import ShardError, StorageError
from postmean.storage.backoff import DEADLINE, GivenUp, retried
from postmean.storage.object_errors import CLIENT_ERRORS, Missing, Unsatisfiable
from postmean.storage.storage import check_path

T = TypeVar("T")

PART = 16 << 20  # bytes of one part of a multipart upload, and of one read


class ObjectRequests:
    """Reads objects of a store and runs other requests to it.

    Args:
        store: an obstore store.
        url: URL of the root, for messages.
        seconds: deadline of one operation (of each part of a large object), all attempts together.
        translate: maps an exception of obstore to the one to raise instead; see `object_errors`.
    """

    def __init__(self, store: Any, url: str, seconds: float, translate: Callable[[Exception], Exception]) -> None:
        self._store, self._url, self._seconds, self._translate = store, url, seconds, translate

    def run(self, path: str, attempt: Callable[[int], T]) -> T:
        """Call `attempt(number)` until it succeeds, fails for good or the deadline passes.

        Raises:
            Missing, Unsatisfiable, Unsupported: the store answered so.
            StorageError: the store refused, or the deadline passed.
        """

        def translated(number: int) -> T:
            try:
                return attempt(number)
            except CLIENT_ERRORS as error:
                raise self._translate(error) from None

        try:
            return retried(translated, self._seconds)
        except GivenUp as error:
            raise StorageError(
                f"{self._url}/{path}: no success within {self._seconds:g} s (last: {error}): check network "
                f"and endpoint, then run the same command again; {DEADLINE} sets the seconds"
            ) from None

    def get(self, path: str) -> bytes:
        """The whole object, read in parts if large; ShardError if it is missing."""
        check_path(path)

        def attempt(_: int) -> bytes:
            answer = obstore.get(self._store, path)
            size = answer.meta["size"]
            if size <= PART:
                return bytes(answer.bytes())
            del answer
            parts = (self._part(path, start, min(PART, size - start)) for start in range(0, size, PART))
            return b"".join(parts)

        return self._read(path, attempt)

    def size(self, path: str) -> int:
        """Bytes of the object; ShardError if it is missing."""
        check_path(path)

        def attempt(_: int) -> int:  # HEAD would not tell why it is refused
            return int(obstore.get(self._store, path, options={"range": (0, 1)}).meta["size"])

        try:
            return self._read(path, attempt)
        except Unsatisfiable:  # of an empty object
            return 0

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`; ShardError if the object is shorter or missing."""
        check_path(path)
        parts = []
        for begin in range(start, start + length, PART):
            wanted = min(PART, start + length - begin)
            try:
                parts.append(self._part(path, begin, wanted))
            except Unsatisfiable:
                parts.append(b"")
            if len(parts[-1]) < wanted:
                short = start + length - begin - len(parts[-1])
                raise ShardError(f"{self._url}/{path}: ends {short} bytes early")
        return b"".join(parts)

    def _read(self, path: str, attempt: Callable[[int], T]) -> T:
        try:
            return self.run(path, attempt)
        except Missing:
            raise ShardError(f"{self._url}/{path}: missing") from None

    def _part(self, path: str, start: int, length: int) -> bytes:
        return self._read(path, lambda _: bytes(obstore.get_range(self._store, path, start=start, length=length)))
