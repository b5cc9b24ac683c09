"""Copies of large objects on this node's disk: read in parts, several at a time, resumed after a kill."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from postmean.base.errors import MismatchError, ShardError
from postmean.base.files import file_sha256, move_into_place
from postmean.storage.node_cache import writing
from postmean.storage.object_requests import PART
from postmean.storage.storage import Reader

_AT_ONCE = 8  # requests; each holds a part in memory

Update = Callable[[int], None]


class Changed(MismatchError):
    """The object does not have the hash that it should have: it was replaced, or is damaged."""


@dataclass(frozen=True)
class Block:
    """A range of an object and its hash."""

    start: int
    length: int
    sha256: bytes

    def is_in(self, data: bytes, start: int) -> bool:
        """Whether the right bytes are in `data`, which begins at byte `start` of the object."""
        part = memoryview(data)[self.start - start : self.start - start + self.length]
        return len(part) == self.length and hashlib.sha256(part).digest() == self.sha256


def part_of(target: Path) -> Path:
    """Where an unfinished copy is."""
    return target.with_name(f"{target.name}.part")


def fetch_blocks(
    reader: Reader, path: str, target: Path, head: bytes, blocks: Sequence[Block], update: Update = lambda done: None
) -> None:
    """Copy an object whose blocks have known hashes.

    What an earlier call left is kept where its hashes are right. Two processes that do the same at the same time do no
    harm: both write right bytes only.

    Args:
        head: the bytes before the first block.
        update: called with the number of bytes done so far, those kept included.
    Raises:
        Changed: a block has another hash.
        DataError: the disk is full or cannot be written.
        ShardError, StorageError: the object is missing or shorter, or cannot be read.
    """
    part = part_of(target)
    groups = _groups(blocks)
    with writing(part):
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with writing(part):
            os.ftruncate(descriptor, blocks[-1].start + blocks[-1].length)
            os.pwrite(descriptor, head, 0)
        done = len(head)

        def bring(group: list[Block]) -> int:
            start, length = group[0].start, group[-1].start + group[-1].length - group[0].start
            if not _are_in(group, os.pread(descriptor, length, start)):
                data = reader.get_range(path, start, length)
                if not _are_in(group, data):
                    raise Changed(f"{reader.url}/{path}: bytes {start}..{start + length - 1} have another hash")
                with writing(part):
                    _write(descriptor, data, start)
            return length

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                for length in pool.map(bring, groups):
                    done += length
                    update(done)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    finally:
        os.close(descriptor)
    _move(part, target)


def fetch_whole(
    reader: Reader, path: str, target: Path, size: int, sha256: str, update: Update = lambda done: None
) -> None:
    """Copy an object of known size and hash. What an earlier call left is kept: the hash is compared at the end.

    Args:
        update: called with the number of bytes done so far, those kept included.
    Raises:
        As `fetch_blocks`.
    """
    part = part_of(target)
    with writing(part):
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        kept = os.fstat(descriptor).st_size
        if kept > size:
            os.ftruncate(descriptor, kept := 0)
        starts = range(kept, size, PART)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for first in range(0, len(starts), _AT_ONCE):  # no more parts in memory than are read at once
                some = starts[first : first + _AT_ONCE]
                read = pool.map(lambda start: reader.get_range(path, start, min(PART, size - start)), some)
                for start, data in zip(some, read, strict=True):  # in order: the length says what is there
                    with writing(part):
                        _write(descriptor, data, start)
                    update(start + len(data))
    finally:
        os.close(descriptor)
    if file_sha256(part) != sha256:
        part.unlink(missing_ok=True)
        if kept:  # perhaps of another object, or from before a power cut
            return fetch_whole(reader, path, target, size, sha256, update)
        raise Changed(f"{reader.url}/{path}: it has another SHA-256 than {sha256[:12]}...")
    _move(part, target)


def _groups(blocks: Sequence[Block]) -> list[list[Block]]:
    """Consecutive blocks of about one part together."""
    groups: list[list[Block]] = []
    for block in blocks:
        if groups and block.start + block.length - groups[-1][0].start <= PART:
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups


def _are_in(group: list[Block], data: bytes) -> bool:
    return all(block.is_in(data, group[0].start) for block in group)


def _write(descriptor: int, data: bytes, start: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, start)
        rest, start = rest[written:], start + written


def _move(part: Path, target: Path) -> None:
    with writing(target):
        try:
            move_into_place(part, target)
        except FileNotFoundError as error:
            if not target.is_file():  # else another process was faster
                raise ShardError(f"{target}: removed while it was fetched: run the same command again") from error
