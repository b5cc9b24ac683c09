"""MNIST's idx files and those of its relatives: train-images-idx3-ubyte with train-labels-idx1-ubyte, also as .gz."""

import math
import re
from collections.abc import Iterator
from typing import IO

import numpy as np

from postmean.base.errors import DataError
from postmean.contract.planes import to_planes
from postmean.importers import limits
from postmean.importers.config import Split
from postmean.importers.files.source import Source
from postmean.importers.layouts.labels import numbered_array
from postmean.importers.layouts.layout import SPLITS, Item, Layout, Wanted, split_or_raise
from postmean.importers.layouts.splits import split_in
from postmean.importers.notes import listed

_NAME = re.compile(r"(.*?)(images|labels)[-._]idx\d-ubyte$")


class MnistIdx(Layout):
    """Images in the order of the file; the label is the number in the file of labels.

    Raises:
        DataError: a file is damaged, there are several sets of one split, or another number of labels than of images.
    """

    kind = "mnist"
    title = "MNIST idx files"
    encoded = False

    def __init__(self, source: Source, wanted: Wanted) -> None:
        sets = _sets(source)
        there: list[Split] = [split for split in SPLITS if any(_split(name) == split for name in sets)]
        split_or_raise(source, wanted, there, "this MNIST")
        chosen = [name for name in sets if _split(name) == wanted.split]
        if len(chosen) > 1:
            raise DataError(f"{source.path}: holds {listed(chosen)}: give the files of one of them")
        files = sets[chosen[0]]
        if "images" not in files:
            raise DataError(f"{source.place(files['labels'])}: labels without images: download {chosen[0]}images too")
        self._source, self._images = source, files["images"]
        with source.stream(self._images) as stream:
            self._shape = _header(stream, source.place(self._images))
        self.count = self._shape[0]
        self._labels: np.ndarray | None = None
        if "labels" in files:
            self._labels, self.class_names = numbered_array(self._read_labels(files["labels"]), files["labels"])
        else:
            self.notes = (f"no labels: there is no {chosen[0]}labels-idx1-ubyte",)
        known = {file for files in sets.values() for file in files.values()}
        self.ignored = tuple(name for name in source.names if name not in known)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether a file is named as MNIST's are."""
        return bool(_sets(source))

    def items(self) -> Iterator[Item]:
        size = math.prod(self._shape[1:])
        place = self._source.place(self._images)
        with self._source.stream(self._images) as stream:
            _header(stream, place)
            for i in range(self.count):
                data = stream.read(size)
                if len(data) != size:
                    raise DataError(f"{place}: cut off at image {i} of {self.count}: download it again")
                pixels = np.frombuffer(data, np.uint8).reshape(1, *self._shape[1:])
                label = None if self._labels is None else int(self._labels[i])
                yield Item(f"image {i} of {place}", to_planes(pixels, place)[0], label)
            if stream.read(1):
                raise DataError(f"{place}: longer than its {self.count} images: download it again")

    def _read_labels(self, name: str) -> np.ndarray:
        place = self._source.place(name)
        with self._source.stream(name) as stream:
            shape = _header(stream, place)
            labels = np.frombuffer(stream.read(limits.MAX_MEMBER_BYTES), np.uint8)
        if shape != (self.count,) or len(labels) != self.count:
            raise DataError(f"{place}: {len(labels):,} labels for {self.count:,} images: download both again")
        return labels


def _sets(source: Source) -> dict[str, dict[str, str]]:
    """What stands before `images` and `labels` -> the files."""
    sets: dict[str, dict[str, str]] = {}
    for base, names in source.bases.items():
        if match := _NAME.match(base):
            for name in names:
                folder = name.removesuffix(base)
                sets.setdefault(folder + match[1], {})[match[2]] = name
    return sets


def _split(name: str) -> Split:
    return "test" if "t10k" in name else split_in(name.rstrip("-_.")) or "train"


def _header(stream: IO[bytes], place: str) -> tuple[int, ...]:
    """Shape of the array of bytes that follows."""
    magic = stream.read(4)
    sizes = [int.from_bytes(stream.read(4)) for _ in range(magic[3] if len(magic) == 4 else 0)]
    if magic[:3] != b"\0\0\x08" or not 1 <= len(sizes) <= 4 or 0 in sizes or math.prod(sizes) > 2**40:
        raise DataError(f"{place}: not an idx file of bytes: download it again")
    return tuple(sizes)
