"""The images of a store in blocks of about 1 MiB: each is compared with its hash before its first use in a process.

So a process that reads few images hashes little, and one that reads all of them hashes each once, whatever the order:
about a second per GB and core. Nothing is remembered on disk: no time stamp has to be trusted.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from postmean.base.errors import DataError

_BLOCK_BYTES = 1 << 20
_THREADS = 4
_AT_ONCE = 256  # blocks between two reports of progress

T = TypeVar("T")


def images_per_block(dim: int) -> int:
    """Images of a block; the last block of a store may have fewer."""
    return max(1, _BLOCK_BYTES // dim)


def block_count(shape: tuple[int, ...]) -> int:
    """Blocks of images of this shape, [N, C, H, W]."""
    return -(-shape[0] // images_per_block(math.prod(shape[1:])))


def hash_blocks(images: np.ndarray) -> np.ndarray:
    """SHA-256 of each block, uint8 [blocks, 32].

    Args:
        images: uint8 [N, C, H, W].
    """
    return np.stack(_each(lambda block: _hash(images, block), range(block_count(images.shape))))


class ImageBlocks:
    """Images that are checked as they are read. Several threads may read.

    Args:
        images: uint8 [N, C, H, W]; or what gets them when they are first read, which may take long.
        hashes: uint8 [blocks, 32]; None if there is nothing to check, as for images made in memory.
        path: file of the images, for messages.
        remedy: what to do about a damaged file.
        shape: N, C, H, W, where the images are not there yet.
    """

    def __init__(
        self,
        images: np.ndarray | Callable[[], np.ndarray],
        hashes: np.ndarray | None = None,
        path: Path | None = None,
        remedy: str = "",
        shape: tuple[int, ...] = (),
    ) -> None:
        self._hashes, self._path, self._remedy = hashes, path, remedy
        self._get, self._getting = (lambda: images) if isinstance(images, np.ndarray) else images, threading.Lock()
        self._got = images if isinstance(images, np.ndarray) else None
        self._per_block = images_per_block(int(np.prod((shape if self._got is None else self._got.shape)[1:])))
        self._unchecked = np.full(0 if hashes is None else len(hashes), True)

    def get(self) -> np.ndarray:
        """All images, uint8 [N, C, H, W], unchecked."""
        if self._got is None:
            with self._getting:
                if self._got is None:
                    self._got = self._get()
        return self._got

    def all(self, progress: Callable[[int], None] = lambda done: None) -> np.ndarray:
        """All images, uint8 [N, C, H, W].

        Args:
            progress: called with the number of images checked so far.
        Raises:
            DataError: a block has another hash.
        """
        unchecked = np.flatnonzero(self._unchecked)
        for start in range(0, len(unchecked), _AT_ONCE):
            blocks = unchecked[start : start + _AT_ONCE].tolist()
            _each(self._check, blocks)
            progress(min((blocks[-1] + 1) * self._per_block, len(self.get())))
        return self.get()

    def rows(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """A copy of some images, uint8 [n, C, H, W].

        Args:
            image: their numbers, int64 [n], each in 0..N - 1.
            out: array of that shape to put them in and return; None for a new one.
        Raises:
            DataError: a block has another hash.
        """
        if self._unchecked.any():
            blocks = np.unique(image // self._per_block)
            _each(self._check, blocks[self._unchecked[blocks]].tolist())
        if out is None:
            return self.get()[image]
        return self.get().take(image, axis=0, out=out, mode="clip")  # other modes go by way of a copy

    def _check(self, block: int) -> None:
        assert self._hashes is not None
        if not np.array_equal(_hash(self.get(), block), self._hashes[block]):
            first = block * self._per_block
            last = min(first + self._per_block, len(self.get())) - 1
            raise DataError(f"{self._path}: damaged: images {first}..{last} are not those imported: {self._remedy}")
        self._unchecked[block] = False


def _hash(images: np.ndarray, block: int) -> np.ndarray:
    size = images_per_block(int(np.prod(images.shape[1:])))
    data = np.ascontiguousarray(images[block * size : (block + 1) * size])
    return np.frombuffer(hashlib.sha256(data.data).digest(), np.uint8)


def _each(work: Callable[[int], T], blocks: Sequence[int]) -> list[T]:
    """`work` of each block, several at a time: while it hashes, Python runs other threads."""
    if len(blocks) < 2:
        return [work(block) for block in blocks]
    with ThreadPoolExecutor(min(_THREADS, len(blocks))) as pool:
        return list(pool.map(work, blocks))
