"""CIFAR-10 python batches: data_batch_1..5, test_batch and batches.meta, in a folder or archive."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from postmean.base.errors import DataError
from postmean.importers.config import Split
from postmean.importers.importer import Item
from postmean.importers.pickles import load_plain
from postmean.importers.sources import Source

_META = "batches.meta"
_BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}


class CifarBatches:
    """Images in the order of the batches, as in every other reader.

    Raises:
        DataError: a batch or the class names are missing or damaged.
    """

    kind = "cifar"
    encoded = False
    ignored = ()

    def __init__(self, source: Source, split: Split) -> None:
        if split not in _BATCHES:
            raise DataError(f"{source.path}: CIFAR-10 has no {split} split: pass --split train or test")
        self._source = source
        self._meta = self._find(_META)
        self._batches = [self._find(name) for name in _BATCHES[split]]
        meta = self._load(self._meta)
        try:
            self.class_names: tuple[str, ...] | None = tuple(map(_text, meta[b"label_names"]))
            self.count = int(meta[b"num_cases_per_batch"]) * len(self._batches)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{source.place(self._meta)}: no label_names and num_cases_per_batch: copy or download it again"
            ) from error

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether the source has a batches.meta file."""
        return any(name.split("/")[-1] == _META for name in source.names)

    def items(self) -> Iterator[Item]:
        for name in self._batches:
            images, labels = self._batch(name)
            place = self._source.place(name)
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield Item(f"image {i} of {place}", image, int(label))

    def _batch(self, name: str) -> tuple[np.ndarray, Any]:
        """uint8 [n, 3, 32, 32] and n labels."""
        batch = self._load(name)
        data, labels = batch.get(b"data"), batch.get(b"labels")
        if not (
            isinstance(data, np.ndarray)
            and data.dtype == np.uint8
            and data.ndim == 2
            and data.shape[1] == 3072
            and labels is not None
            and len(labels) == len(data)
        ):
            raise DataError(
                f"{self._source.place(name)}: expected data as uint8 [n, 3072] and n labels: copy or download it again"
            )
        return data.reshape(-1, 3, 32, 32), labels

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
    return name.decode() if isinstance(name, bytes) else name
