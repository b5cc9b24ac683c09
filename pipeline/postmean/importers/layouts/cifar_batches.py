"""CIFAR-10 python batches: data_batch_1..5, test_batch and batches.meta, in a folder or archive."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers import limits
from postmean.importers.config import Split
from postmean.importers.files.source import Source
from postmean.importers.layouts.labels import shown
from postmean.importers.layouts.layout import Item
from postmean.importers.layouts.pickles import load_plain
from postmean.importers.notes import listed

_META = "batches.meta"
_READ = (b"data", b"labels", b"batch_label")
_BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}


class CifarBatches:
    """Images in the order of the batches, as in every other reader.

    Raises:
        DataError: a batch or the class names are missing or damaged.
    """

    kind = "cifar"
    encoded = False

    def __init__(self, source: Source, split: Split) -> None:
        if split not in _BATCHES:
            raise DataError(f"{source.path}: CIFAR-10 has no {split} split: pass --split train or test")
        self._source = source
        self._meta = self._find(_META)
        self._batches = [self._find(name) for name in _BATCHES[split]]
        meta = self._load(self._meta)
        try:
            self.class_names: tuple[str, ...] | None = tuple(map(_text, meta[b"label_names"]))
            rows = meta[b"num_cases_per_batch"]
            if type(rows) is not int or not 0 < rows <= limits.MAX_MEMBER_BYTES // 3072:
                raise ValueError
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{source.place(self._meta)}: no label_names and num_cases_per_batch: copy or download it again"
            ) from error
        self.count = rows * len(self._batches)
        known = (_META, *(name for names in _BATCHES.values() for name in names))
        self.ignored = tuple(name for name in source.names if name.split("/")[-1] not in known)
        self.notes: tuple[str, ...] = ()

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether the source has a batches.meta file."""
        return any(name.split("/")[-1] == _META for name in source.names)

    def items(self) -> Iterator[Item]:
        for name in self._batches:
            images, labels = self._batch(name)
            place = self._source.place(name)
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield Item(f"image {i} of {place}", image, label)

    def _batch(self, name: str) -> tuple[np.ndarray, list[int]]:
        """uint8 [n, 3, 32, 32] and n labels."""
        batch, place = self._load(name), self._source.place(name)
        data, labels = batch.get(b"data"), batch.get(b"labels")
        if isinstance(labels, np.ndarray) and labels.ndim == 1:
            labels = labels.tolist()
        if not (
            isinstance(data, np.ndarray)
            and data.dtype == np.uint8
            and data.ndim == 2
            and data.shape[1] == 3072
            and isinstance(labels, list | tuple)
            and len(labels) == len(data)
        ):
            raise DataError(f"{place}: expected data as uint8 [n, 3072] and n labels: copy or download it again")
        rows = self.count // len(self._batches)
        if len(data) != rows:
            raise DataError(f"{place}: {len(data)} images, expected {rows} as {_META} says: copy or download it again")
        classes = len(self.class_names or ())
        for i, label in enumerate(labels):
            if type(label) is not int or not 0 <= label < classes:
                raise DataError(f"image {i} of {place}: label {shown(label)}: expected 0..{classes - 1}")
        others = sorted(_text(key) for key in batch if key not in _READ and isinstance(key, bytes))
        if others and not self.notes:
            self.notes = (f"fields of the batches that are not kept: {listed(others)}",)
        return data.reshape(-1, 3, 32, 32), list(labels)

    def _load(self, name: str) -> dict[Any, Any]:
        plain = load_plain(self._source.read(name), self._source.place(name))
        if not isinstance(plain, dict):
            raise DataError(f"{self._source.place(name)}: expected a dict, got {type(plain).__name__}")
        return {key.encode() if isinstance(key, str) else key: value for key, value in plain.items()}

    def _find(self, name: str) -> str:
        members = [other for other in self._source.names if other.split("/")[-1] == name]
        if len(members) != 1:
            what = "is missing" if not members else f"is there {len(members)} times"
            raise DataError(f"{self._source.path}: {name} {what}: expected cifar-10-batches-py as published")
        return members[0]


def _text(name: bytes | str) -> str:
    return printable(name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
