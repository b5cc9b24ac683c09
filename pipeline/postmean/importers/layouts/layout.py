"""Interface of a layout: it recognises a source, and yields its images in a fixed order with their labels."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.config import Split
from postmean.importers.files.source import Source


@dataclass(frozen=True)
class Item:
    """One image of a source."""

    place: str
    """Its name in messages."""
    payload: bytes | np.ndarray
    """An image file, or uint8 [C, H, W]."""
    label: int | None
    name: str = ""
    """The name of its file, if it has one: some formats show themselves only by it."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a layout."""

    split: Split = "train"
    label: str | None = None
    """Which of several labels; None for the layout's own choice."""


SPLITS: tuple[Split, ...] = ("train", "val", "test")


class NoSplitError(DataError):
    """The source has no such split; others may be there."""


class Layout(ABC):
    """A source of one layout, opened for one split.

    Subclasses take (source, wanted), and raise `NoSplitError` for a split that is not there, `DataError` for a source
    that is damaged. `layouts/__init__.py` lists them.
    """

    kind: ClassVar[str]
    """Its name for --kind."""
    title: ClassVar[str]
    """What such a source is, in a few words."""
    encoded: bool = True
    """Whether payloads are encoded files; else they are pixels."""
    count: int
    """Number of images."""
    class_names: tuple[str, ...] | None = None
    """Name of each label, None if the source has no labels."""
    label_choices: tuple[str, ...] = ()
    """Names that `Wanted.label` may be."""
    ignored: tuple[str, ...] = ()
    """Other files beside the images, which are not read."""
    hidden: tuple[str, ...] = ()
    """Hidden images and folders, which are not read."""
    notes: tuple[str, ...] = ()
    """What the source says about its images and the store will not keep, one line each; not the ignored files."""

    @staticmethod
    @abstractmethod
    def found_in(source: Source) -> bool:
        """Whether the source is of this layout."""

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """The images, in an order that depends only on names and on the order within each file."""

    def sample(self, count: int) -> Iterator[Item]:
        """Some of the images, to look at: at most `count`."""
        return islice(self.items(), count)


class FileLayout(Layout):
    """A layout whose images are files."""

    _source: Source
    _images: Sequence[str]
    """Their names, in order."""
    _labels: Mapping[str, int] | None = None
    """Name -> label, None without labels."""

    def items(self) -> Iterator[Item]:
        return self._items(self._images)

    def sample(self, count: int) -> Iterator[Item]:
        step = max(1, len(self._images) // count)
        return self._items(self._images[::step][:count])

    def _items(self, names: Sequence[str]) -> Iterator[Item]:
        for name, payload in zip(names, self._source.read_each(names), strict=True):
            yield Item(self._source.place(name), payload, None if self._labels is None else self._labels[name], name)


def chosen_label(source: Source, wanted: Wanted, choices: Sequence[str], own: str | None) -> str | None:
    """The label to keep: the one that is asked for, else the layout's own choice.

    Raises:
        DataError: there is none of the name that is asked for.
    """
    if wanted.label is None:
        return own
    if wanted.label not in choices:
        there = ", ".join(map(printable, choices[:50])) or "none"
        raise DataError(f"{source.path}: no label {printable(wanted.label)}: pass --label with one of {there}")
    return wanted.label


def images_or_raise(source: Source, images: Sized) -> None:
    """Raise DataError if there is no image."""
    if not images:
        raise DataError(f"{source.path}: no image in it (.jpg, .png, ...): check the path")


def split_or_raise(source: Source, wanted: Wanted, there: Sequence[Split], what: str) -> None:
    """Raise NoSplitError unless the split that is asked for is there.

    Args:
        what: names the source in the error, such as "CIFAR-10".
    """
    if wanted.split not in there:
        raise NoSplitError(f"{source.path}: {what} has no {wanted.split} split: pass --split {' or '.join(there)}")


def no_splits(source: Source, wanted: Wanted, what: str) -> None:
    """Raise NoSplitError if another split than train is asked of a source that has none."""
    if wanted.split != "train":
        raise NoSplitError(f"{source.path}: {what} no splits: leave out --split {wanted.split}")
