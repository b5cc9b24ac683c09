"""Arrays of images and labels: .npy files and .npz archives, such as ADM's with arr_0 and Keras' with x_train."""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from postmean.base.errors import DataError
from postmean.contract.planes import to_planes
from postmean.importers.config import Split
from postmean.importers.files.source import Source
from postmean.importers.layouts.array_file import ArrayFile, open_array
from postmean.importers.layouts.labels import numbered_array
from postmean.importers.layouts.layout import SPLITS, Item, Layout, Wanted, no_splits, split_or_raise
from postmean.importers.layouts.splits import split_in
from postmean.importers.notes import listed

_IMAGES = ("images", "image", "imgs", "img", "x", "data", "samples", "pixels", "arr 0")
_LABELS = ("labels", "label", "y", "targets", "target", "classes", "cls", "arr 1")


@dataclass
class _Pair:
    """Arrays that lie in one folder and are of one split."""

    images: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


class Arrays(Layout):
    """Images in the order of the files' names and of their rows.

    The name of an array says what it is: images, x, data, samples or arr_0; labels, y, targets or arr_1, with or
    without train, val or test. A single array is the images, whatever its name.

    Raises:
        DataError: no images or two arrays of them in one folder, labels for some only, another type than uint8.
    """

    kind = "arrays"
    title = "arrays of images (.npy, .npz)"
    encoded = False

    def __init__(self, source: Source, wanted: Wanted) -> None:
        names = _arrays(source)
        pairs = _pairs(names)
        there: list[Split] = [split for split in SPLITS if any(of == split for of, _ in pairs)]
        of: Split | None = None
        if there:
            split_or_raise(source, wanted, there, "this set of arrays")
            of = wanted.split
        else:
            no_splits(source, wanted, "these arrays have")
        chosen = [pair for (split, _), pair in sorted(pairs.items(), key=str) if split == of and pair.images]
        if not chosen:
            raise DataError(
                f"{source.path}: no array of images among {listed(names)}: name it images, x, data, samples or arr_0"
            )
        for pair in chosen:
            if len(pair.images) > 1 or len(pair.labels) > 1:
                twice = pair.images if len(pair.images) > 1 else pair.labels
                raise DataError(f"{source.path}: {listed(twice)} could each be it: give one of them")
        self._images = [open_array(source, pair.images[0]) for pair in chosen]
        self.count = sum(array.shape[0] for array in self._images)
        labels = [open_array(source, pair.labels[0]) for pair in chosen if pair.labels]
        self._numbers: np.ndarray | None = None
        if labels:
            self._numbers, self.class_names = self._numbered(labels)
        else:
            self.notes = ("no labels: there is no array of them, such as labels, y or arr_1",)
        read = {array.name for array in (*self._images, *labels)}
        other_splits = {name for (split, _), pair in pairs.items() if split != of for name in pair.images + pair.labels}
        self.ignored = tuple(name for name in source.names if name not in read | other_splits)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether there are .npy files and no images."""
        return not source.images and bool(_arrays(source))

    def items(self) -> Iterator[Item]:
        done = 0
        for array in self._images:
            start = 0
            for chunk in array.chunks():
                for i, planes in enumerate(to_planes(chunk, array.place)):
                    label = None if self._numbers is None else int(self._numbers[done])
                    yield Item(f"image {start + i} of {array.place}", planes, label)
                    done += 1
                start += len(chunk)

    def _numbered(self, labels: Sequence[ArrayFile]) -> tuple[np.ndarray, tuple[str, ...]]:
        if len(labels) < len(self._images):
            raise DataError(f"{labels[0].place}: labels for this array and not for others: add them, or remove these")
        for array, images in zip(labels, self._images, strict=True):
            if array.shape[0] != images.shape[0]:
                raise DataError(
                    f"{array.place}: {array.shape[0]:,} labels for {images.shape[0]:,} images: make it again"
                )
        try:
            whole = np.concatenate([array.whole() for array in labels])
        except ValueError as error:
            raise DataError(f"{labels[0].place}: labels of different shapes: make them again") from error
        return numbered_array(whole, labels[0].place)


def _arrays(source: Source) -> list[str]:
    return [name for name in source.names if name.lower().endswith(".npy")]


def _pairs(names: Sequence[str]) -> dict[tuple[Split | None, str], _Pair]:
    """Split and folder -> its arrays of images and labels."""
    pairs: dict[tuple[Split | None, str], _Pair] = {}
    for name in names:
        words = re.split(r"[-_. ]", posixpath.basename(name).lower().removesuffix(".npy"))
        said = {*words, " ".join(words)}
        pair = pairs.setdefault((split_in(name), posixpath.dirname(name)), _Pair())
        if not said.isdisjoint(_LABELS):
            pair.labels.append(name)
        elif not said.isdisjoint(_IMAGES) or len(names) == 1:
            pair.images.append(name)
    return pairs
