"""CIFAR binary files: records of a label (CIFAR-100: a coarse and a fine one) and 3072 bytes of pixels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.config import Split
from postmean.importers.files.source import Source
from postmean.importers.layouts.layout import Item, Layout, Wanted, chosen_label, split_or_raise

_PIXELS = 3072


@dataclass(frozen=True)
class _Form:
    name: str
    files: dict[Split, tuple[str, ...]]
    labels: dict[str, tuple[int, str]]
    """Choice of a label -> its place in a record and the file of its names, the usual one first."""
    label_bytes: int


_CIFAR_10 = _Form(
    "CIFAR-10",
    {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    {"label": (0, "batches.meta.txt")},
    1,
)
_CIFAR_100 = _Form(
    "CIFAR-100",
    {"train": ("train.bin",), "test": ("test.bin",)},
    {"fine": (1, "fine_label_names.txt"), "coarse": (0, "coarse_label_names.txt")},
    2,
)


class CifarBinary(Layout):
    """Images in the order of the files.

    Raises:
        DataError: a file is missing or cut off, or a label has no name.
    """

    kind = "cifar-binary"
    title = "CIFAR binary files"
    encoded = False

    def __init__(self, source: Source, wanted: Wanted) -> None:
        form = _form(source) or _CIFAR_10
        split_or_raise(source, wanted, list(form.files), form.name)
        self._source, self._form = source, form
        self.label_choices = tuple(form.labels) if len(form.labels) > 1 else ()
        choice = chosen_label(source, wanted, self.label_choices, next(iter(form.labels))) or ""
        self._at, names = form.labels[choice]
        lines = source.read(self._find(names)).decode("utf-8", "surrogateescape").split("\n")
        self.class_names = tuple(printable(line.strip()) for line in lines if line.strip())
        self._files = [self._find(name) for name in form.files[wanted.split]]
        record = form.label_bytes + _PIXELS
        for name in self._files:
            if source.size(name) % record or not source.size(name):
                raise DataError(f"{source.place(name)}: {source.size(name):,} bytes, no whole records of {record}")
        self.count = sum(source.size(name) // record for name in self._files)
        known = {names for _, names in form.labels.values()}.union(*form.files.values())
        self.ignored = tuple(name for name in source.names if name.split("/")[-1] not in known)
        if self.label_choices:
            others = " and ".join(other for other in self.label_choices if other != choice)
            self.notes = (f"{others} labels are not kept: --label {others} takes them",)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether the source has CIFAR's .bin files and the names of its classes."""
        return _form(source) is not None

    def items(self) -> Iterator[Item]:
        record = self._form.label_bytes + _PIXELS
        classes = len(self.class_names or ())
        for name in self._files:
            place = self._source.place(name)
            with self._source.stream(name) as stream:
                for i in range(self._source.size(name) // record):
                    data = stream.read(record)
                    if len(data) != record:
                        raise DataError(f"{place}: cut off at image {i}: copy or download it again")
                    label = data[self._at]
                    if label >= classes:
                        raise DataError(f"image {i} of {place}: label {label}: expected 0..{classes - 1}")
                    pixels = np.frombuffer(data, np.uint8)[self._form.label_bytes :].reshape(3, 32, 32)
                    yield Item(f"image {i} of {place}", pixels, label)

    def _find(self, name: str) -> str:
        found = self._source.bases.get(name, [])
        if len(found) != 1:
            what = "is missing" if not found else f"is there {len(found)} times"
            raise DataError(f"{self._source.path}: {name} {what}: expected {self._form.name}'s binary version, whole")
        return found[0]


def _form(source: Source) -> _Form | None:
    bases = source.bases.keys()
    if "batches.meta.txt" in bases and any(name.endswith(".bin") for name in bases):
        return _CIFAR_10
    return _CIFAR_100 if {"train.bin", "fine_label_names.txt"} <= bases else None
