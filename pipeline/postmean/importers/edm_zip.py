"""Data sets in the layout of EDM and EDM2: 00000/img00000000.png, and dataset.json with the labels."""

from collections.abc import Iterator
from typing import Any

from postmean.base.errors import DataError
from postmean.base.json_files import parse_json
from postmean.importers.config import Split
from postmean.importers.importer import Item, is_image
from postmean.importers.sources import Source

_LABELS = "dataset.json"


class EdmZip:
    """All images in sorted order; labels 0..n-1 from dataset.json, no labels if it has null or is missing.

    Raises:
        DataError: no images, several dataset.json, another split than train, or labels that do not fit the images.
    """

    kind = "edm"
    encoded = True

    def __init__(self, source: Source, split: Split) -> None:
        if split != "train":
            raise DataError(f"{source.path}: an EDM zip has no splits: leave out --split {split}")
        self._source = source
        label_files = [name for name in source.names if name.split("/")[-1] == _LABELS]
        if len(label_files) > 1:
            raise DataError(
                f"{source.path}: holds {label_files[0]} and {label_files[1]}: give the folder or zip of one data set"
            )
        self._root = label_files[0].removesuffix(_LABELS) if label_files else ""
        self._images = [name for name in source.names if is_image(name) and name.startswith(self._root)]
        if not self._images:
            raise DataError(f"{source.path}: no .png or .jpg image in it: check the path")
        self.count = len(self._images)
        self.ignored = tuple(
            n for n in source.names if n.startswith(self._root) and not is_image(n) and n not in label_files
        )
        self._labels: dict[str, int] | None = None
        self.class_names: tuple[str, ...] | None = None
        if label_files and (pairs := self._pairs()) is not None:
            self._labels, classes = self._integers(pairs)
            self.class_names = tuple(map(str, range(classes)))

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether the source has a dataset.json file."""
        return any(name.split("/")[-1] == _LABELS for name in source.names)

    def items(self) -> Iterator[Item]:
        for name in self._images:
            label = None if self._labels is None else self._labels[name]
            yield Item(self._source.place(name), self._source.read(name), label)

    def _pairs(self) -> dict[str, Any] | None:
        """Image -> label as in dataset.json, exactly one per image; None if its labels are null."""
        place = self._source.place(self._root + _LABELS)
        try:
            labels = parse_json(self._source.read(self._root + _LABELS))["labels"]
            if labels is None:
                return None
            pairs = {self._root + name.replace("\\", "/"): label for name, label in labels}
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # ValueError: not pairs, or not JSON
            raise DataError(
                f'{place}: expected {{"labels": [[name, label], ...] or null}}: make the zip again'
            ) from error
        for name in self._images:
            if name not in pairs:
                raise DataError(f"{self._source.place(name)}: no label in {_LABELS}: add it, or set labels to null")
        missing = sorted(pairs.keys() - set(self._images))
        if missing:
            raise DataError(
                f"{self._source.place(missing[0])}: labelled in {_LABELS} but not there: make the zip again"
            )
        return pairs

    def _integers(self, pairs: dict[str, Any]) -> tuple[dict[str, int], int]:
        """Image -> integer label, and the number of classes, from integers or one-hot vectors."""
        integers: dict[str, int] = {}
        lengths: set[int | None] = set()
        for name, label in pairs.items():
            lengths.add(len(label) if isinstance(label, list) else None)
            if isinstance(label, list):
                if label.count(1) != 1 or label.count(0) != len(label) - 1:
                    raise DataError(f"{self._source.place(name)}: its label is a vector but not one-hot: give a class")
                label = label.index(1)
            if type(label) is not int or label < 0:
                raise DataError(f"{self._source.place(name)}: label {label!r} in {_LABELS}: expected 0, 1, 2, ...")
            integers[name] = label
        if len(lengths) != 1:
            place = self._source.place(self._root + _LABELS)
            raise DataError(f"{place}: labels of different kinds or lengths: make the zip again")
        return integers, lengths.pop() or max(integers.values()) + 1
