"""CIFAR python batches: CIFAR-10's data_batch_1..5, test_batch and batches.meta; CIFAR-100's train, test and meta."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers import limits
from postmean.importers.config import Split
from postmean.importers.files.source import Source
from postmean.importers.layouts.labels import shown
from postmean.importers.layouts.layout import Item, Layout, Wanted, chosen_label, split_or_raise
from postmean.importers.layouts.pickles import read_pickle
from postmean.importers.notes import listed


@dataclass(frozen=True)
class _Form:
    name: str
    folder: str
    meta: str
    batches: dict[Split, tuple[str, ...]]
    labels: dict[str, tuple[bytes, bytes]]
    """Choice of a label -> its fields in the batches and in the meta file, the usual one first."""


_CIFAR_10 = _Form(
    "CIFAR-10",
    "cifar-10-batches-py",
    "batches.meta",
    {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    {"label": (b"labels", b"label_names")},
)
_CIFAR_100 = _Form(
    "CIFAR-100",
    "cifar-100-python",
    "meta",
    {"train": ("train",), "test": ("test",)},
    {"fine": (b"fine_labels", b"fine_label_names"), "coarse": (b"coarse_labels", b"coarse_label_names")},
)


class CifarBatches(Layout):
    """Images in the order of the batches, as in every other reader.

    Raises:
        DataError: a batch or the class names are missing or damaged.
    """

    kind = "cifar"
    title = "CIFAR python batches"
    encoded = False

    def __init__(self, source: Source, wanted: Wanted) -> None:
        self._form = _form(source) or _CIFAR_10
        split_or_raise(source, wanted, list(self._form.batches), self._form.name)
        self._source = source
        self.label_choices = tuple(self._form.labels) if len(self._form.labels) > 1 else ()
        choice = chosen_label(source, wanted, self.label_choices, next(iter(self._form.labels)))
        assert choice is not None
        self._field, names_field = self._form.labels[choice]
        self._meta = self._find(self._form.meta)
        self._batches = [self._find(name) for name in self._form.batches[wanted.split]]
        meta = self._load(self._meta)
        names = meta.get(names_field)
        try:
            self.class_names = tuple(map(_text, names))  # type: ignore[arg-type]
        except (TypeError, AttributeError) as error:
            raise self._bad_meta(names_field) from error
        self._first: tuple[np.ndarray, list[int]] | None = None
        if self._form is _CIFAR_10:
            rows = meta.get(b"num_cases_per_batch")
            if type(rows) is not int or not 0 < rows <= limits.MAX_MEMBER_BYTES // 3072:
                raise self._bad_meta(names_field)
            self._rows: int | None = rows
            self.count = rows * len(self._batches)
        else:
            self._rows = None
            self._first = self._batch(self._batches[0])
            self.count = len(self._first[0])
        known = (self._form.meta, *(name for names in self._form.batches.values() for name in names))
        self.ignored = tuple(name for name in source.names if name.split("/")[-1] not in known)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether the source has the files that name CIFAR's classes."""
        return _form(source) is not None

    def items(self) -> Iterator[Item]:
        for name in self._batches:
            images, labels = self._first or self._batch(name)
            place = self._source.place(name)
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield Item(f"image {i} of {place}", image, label)

    def _batch(self, name: str) -> tuple[np.ndarray, list[int]]:
        """uint8 [n, 3, 32, 32] and n labels."""
        batch, place = self._load(name), self._source.place(name)
        data, labels = batch.get(b"data"), batch.get(self._field)
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
        if self._rows not in (None, len(data)):
            raise DataError(
                f"{place}: {len(data)} images, expected {self._rows} as {self._form.meta} says: "
                "copy or download it again"
            )
        classes = len(self.class_names or ())
        for i, label in enumerate(labels):
            if type(label) is not int or not 0 <= label < classes:
                raise DataError(f"image {i} of {place}: label {shown(label)}: expected 0..{classes - 1}")
        read = (b"data", self._field, b"batch_label")
        others = sorted(_text(key) for key in batch if key not in read and isinstance(key, bytes))
        if others and not self.notes:
            self.notes = (f"fields of the batches that are not kept: {listed(others)}",)
        return data.reshape(-1, 3, 32, 32), list(labels)

    def _load(self, name: str) -> dict[Any, Any]:
        plain = read_pickle(self._source, name)
        if not isinstance(plain, dict):
            raise DataError(f"{self._source.place(name)}: expected a dict, got {type(plain).__name__}")
        return {key.encode() if isinstance(key, str) else key: value for key, value in plain.items()}

    def _find(self, name: str) -> str:
        members = self._source.bases.get(name, [])
        if len(members) != 1:
            what = "is missing" if not members else f"is there {len(members)} times"
            raise DataError(f"{self._source.path}: {name} {what}: expected {self._form.folder} as published")
        return members[0]

    def _bad_meta(self, names: bytes) -> DataError:
        counts = " and num_cases_per_batch" if self._form is _CIFAR_10 else ""
        return DataError(f"{self._source.place(self._meta)}: no {names.decode()}{counts}: copy or download it again")


def _form(source: Source) -> _Form | None:
    if _CIFAR_10.meta in source.bases:
        return _CIFAR_10
    return _CIFAR_100 if {"meta", "train", "test"} <= source.bases.keys() else None


def _text(name: bytes | str) -> str:
    return printable(name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
