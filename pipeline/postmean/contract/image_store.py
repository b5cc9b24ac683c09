"""The image store: memory-mapped uint8 images, labels and a header; the only code that maps uint8 <-> [-1, 1].

    STORE/header.json        shape, class names, source, content fingerprint; sealed
    STORE/images.npy         uint8 [N, C, H, W]
    STORE/labels.npy         int64 [N], only where the source has labels
    STORE/block_hashes.npy   uint8 [blocks, 32], SHA-256 of each block of images

A store in an object store has the same files; each node keeps a copy of it (see `remote_store`).

Plain `numpy.load(..., mmap_mode="r")` reads the arrays. The fingerprint is a hash of labels and block hashes: opening a
store checks all but the images, of which a block is checked when it is first read.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from postmean.base.errors import DataError
from postmean.base.files import move_into_place, temporary_folder
from postmean.base.json_files import to_sealed_json
from postmean.base.paths import local_path
from postmean.base.progress import ShowProgress, shown
from postmean.contract.image_blocks import ImageBlocks, block_count, hash_blocks
from postmean.contract.mapped_array import map_array
from postmean.contract.store_header import SCHEMA_VERSION, StoreHeader, array_header, fingerprint_of, parse_header

if TYPE_CHECKING:
    from postmean.contract.remote_store import RemoteStore


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """uint8 pixels to float32 x in [-1, 1]: x = pixel / 127.5 - 1."""
    return pixels.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)


def to_pixels(x: np.ndarray) -> np.ndarray:
    """Float x to uint8 pixels, rounded and clipped; the inverse of `to_unit` on its range."""
    return np.clip(np.rint((np.asarray(x, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class ImageStore:
    """An opened store. Its images are a read-only memory map shared by all processes of a machine."""

    path: Path
    """Folder of the store, or of its copy on this node"""
    header: StoreHeader
    blocks: ImageBlocks = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    remote: "RemoteStore | None" = field(default=None, repr=False)
    """Where `path` is a copy from; None if it is the store itself"""

    @classmethod
    def open(cls, path: Path | str, progress: bool | ShowProgress = True) -> "ImageStore":
        """Open a store made by `postmean import`. Images are checked later, as they are read.

        Of a store at a URL, labels and hashes are fetched now, and the images when they are first needed: once for all
        processes of a node, into POSTMEAN_STORE_CACHE.

        Args:
            path: its folder, or its URL: s3://, gs://, az://, or http(s):// of a server of files. A URL is a str.
            progress: whether to show what is fetched.
        Raises:
            DataError: no store there, one of another schema, or one that is not what was imported; or the cache is
                full or cannot be written.
            StorageError: the object store refuses, or cannot be reached.
            ConfigError: no valid path or URL.
        """
        remote = None
        if isinstance(path, str) and "://" in path:
            from postmean.contract.remote_store import open_remote  # here: it loads obstore

            found = open_remote(path, shown(progress))
            if isinstance(found, Path):
                path = found
            else:
                remote, path = found, found.path
        path = local_path(path)
        header_path = path / "header.json"
        if not os.path.isfile(header_path):
            raise DataError(
                f"{path}: no image store there (no header.json): make one with `postmean import SOURCE {path}`"
            )
        remedy = f"remove {path} and import again, then index again"
        if remote is not None:
            remedy = f"remove {path}, the copy of {remote.url} on this node: it is fetched again"
        try:
            header = parse_header(header_path.read_bytes(), str(header_path), remedy)
        except OSError as error:
            raise DataError(f"{header_path}: {error.strerror}: make it readable") from error
        hashes = map_array(path / "block_hashes.npy", np.dtype(np.uint8), (block_count(header.shape), 32), remedy)
        labels = None
        if header.class_names is not None:
            labels = np.array(map_array(path / "labels.npy", np.dtype(np.int64), header.shape[:1], remedy))
        if fingerprint_of(header.shape, hashes, labels) != header.fingerprint:
            raise DataError(f"{path}: labels.npy or block_hashes.npy is damaged: {remedy}")

        def images() -> np.ndarray:
            if remote is not None:
                remote.fetch_images(header.shape, hashes)
            return map_array(path / "images.npy", np.dtype(np.uint8), header.shape, remedy)

        blocks = ImageBlocks(images if remote else images(), hashes, path / "images.npy", remedy, header.shape)
        return cls(path, header, blocks, labels, remote)

    @property
    def where(self) -> str:
        """Where the store is, for messages: its path as it was opened, or its URL."""
        return str(self.path) if self.remote is None else self.remote.url

    @property
    def url(self) -> str:
        """Argument with which `open` opens this store again: its URL, or its whole path on machines that see it."""
        return str(self.path.resolve()) if self.remote is None else self.remote.url

    @classmethod
    def write(
        cls, path: Path | str, images: Iterable[tuple[Any, int | None]], class_names: Sequence[str] | None = None
    ) -> "ImageStore":
        """Make a store of the images that an iterator yields, such as a data set of torchvision.

            ImageStore.write("cifar10.store", torchvision.datasets.CIFAR10("root"))

        Args:
            path: store to create; it must not exist yet.
            images: pairs of an image and its label. An image is a Pillow image, RGB or grey, or uint8 [H, W], [H, W, C]
                or [C, H, W] of numpy or torch; all have one size. Labels are integers 0..n-1, or None for all.
            class_names: name of each label; the numbers name themselves without it.
        Raises:
            DataError: an image is none of these or of another size, a label is no integer or missing, or the store
                exists already or cannot be written.
        """
        from postmean.contract.written_images import write_images  # here: it needs this class

        return write_images(path, images, class_names)

    def __len__(self) -> int:
        return self.header.shape[0]

    @property
    def images(self) -> np.ndarray:
        """All images, uint8 [N, C, H, W], read-only; DataError if one is damaged. Checks them once in a process."""
        return self.blocks.all()

    def fetch(self) -> None:
        """Bring the images of a store at a URL to this node now, unless they are there."""
        self.blocks.get()

    def check(self, progress: Callable[[int], None] = lambda done: None) -> None:
        """Check all images now; DataError if one is damaged.

        Args:
            progress: called with the number of images checked so far.
        """
        self.blocks.all(progress)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """C, H, W"""
        return self.header.shape[1:]

    @property
    def dim(self) -> int:
        """D = C H W"""
        c, h, w = self.image_shape
        return c * h * w

    @property
    def classes(self) -> int:
        """Number of classes, 0 without labels."""
        return len(self.header.class_names or ())

    def pixels(self, entry: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of entries (an entry >= N is a flipped image), uint8 [n, C, H, W]; DataError if one is damaged.

        Args:
            out: array of that shape to put them in and return; None for a new one.
        """
        entry = np.asarray(entry)
        flipped = entry >= len(self)
        if not flipped.any():
            return self.blocks.rows(entry, out)
        out = self.blocks.rows(entry % len(self), out)
        out[flipped] = out[flipped][..., ::-1]
        return out

    def label(self, entry: np.ndarray) -> np.ndarray | None:
        """Labels of entries, int64 [n], None without labels."""
        return None if self.labels is None else self.labels[np.asarray(entry) % len(self)]


def fingerprint(images: np.ndarray, labels: np.ndarray | None) -> str:
    """SHA-256 of shape, hashes of all blocks of images, and labels."""
    return fingerprint_of(images.shape, hash_blocks(images), labels)


class StoreWriter:
    """Writes a store: append batches, then `finish`. Nothing appears at `path` before `finish` succeeds.

    Use as a context manager; leaving it without `finish` removes all that was written.

    Raises:
        DataError: `path` exists already; a batch has another shape or dtype, or lacks or should not have labels;
            at `finish`, there are no images, a label has no class name, or the store cannot be moved to `path`.
    """

    def __init__(self, path: Path | str, class_names: tuple[str, ...] | None, source: dict[str, Any]) -> None:
        self._path = local_path(path)
        if self._path.exists():
            raise DataError(f"{self._path}: already there: remove it or import to another path")
        self._stack = ExitStack()
        self._class_names = class_names
        self._source = source
        self._labels: list[np.ndarray] = []
        self._shape: tuple[int, int, int] | None = None
        self._count = 0

    def __enter__(self) -> "StoreWriter":
        with ExitStack() as stack:
            self._partial = stack.enter_context(temporary_folder(self._path))
            self._file = stack.enter_context((self._partial / "images.npy").open("wb+"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def append(self, pixels: np.ndarray, labels: np.ndarray | None) -> None:
        """Add uint8 [n, C, H, W] pixels and their int64 [n] labels (None if and only if class_names is None)."""
        if pixels.dtype != np.uint8 or pixels.ndim != 4:
            raise DataError(f"{self._path}: got {pixels.dtype} {pixels.shape}, expected uint8 [n, C, H, W]")
        if (labels is None) != (self._class_names is None) or (labels is not None and len(labels) != len(pixels)):
            raise DataError(f"{self._path}: labels must be given for each image exactly where class names are")
        if self._shape is None:
            self._shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
            self._write_array_header(0)
        if pixels.shape[1:] != self._shape:
            raise DataError(f"{self._path}: got images of shape {pixels.shape[1:]}, expected {self._shape}")
        self._file.write(np.ascontiguousarray(pixels).data)
        self._count += len(pixels)
        if labels is not None:
            self._labels.append(np.asarray(labels, np.int64))

    def name_classes(self, names: Sequence[str]) -> None:
        """Replace the class names, which may be known only after the last image."""
        self._class_names = tuple(names)

    def finish(self, **counts: Any) -> ImageStore:
        """Write labels and header, move the store into place and open it; `counts` are added to header.source."""
        if self._shape is None or self._count == 0:
            raise DataError(f"{self._path}: no images were found in the source")
        self._file.seek(0)
        self._write_array_header(self._count)
        self._file.flush()
        labels = None
        if self._class_names is not None:
            labels = np.concatenate(self._labels)
            if labels.min() < 0 or labels.max() >= len(self._class_names):
                raise DataError(
                    f"{self._path}: labels {labels.min()}..{labels.max()}, expected 0..{len(self._class_names) - 1}"
                )
            np.save(self._partial / "labels.npy", labels, allow_pickle=False)
        images = np.load(self._partial / "images.npy", mmap_mode="r", allow_pickle=False)
        hashes = hash_blocks(images)
        np.save(self._partial / "block_hashes.npy", hashes, allow_pickle=False)
        header = StoreHeader(
            schema_version=SCHEMA_VERSION,
            shape=(self._count, *self._shape),
            class_names=self._class_names,
            source=self._source | counts,
            fingerprint=fingerprint_of(images.shape, hashes, labels),
        )
        (self._partial / "header.json").write_bytes(to_sealed_json(header))
        try:
            move_into_place(self._partial, self._path)
        except OSError as error:
            raise DataError(f"{self._path}: cannot move the finished store there: {error.strerror}") from error
        return ImageStore.open(self._path)

    def _write_array_header(self, count: int) -> None:
        assert self._shape is not None
        self._file.write(array_header((count, *self._shape)))
