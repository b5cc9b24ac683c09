"""Tables of images: which column holds the images, which the labels, and their rows as items."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from postmean.base.errors import DataError
from postmean.base.one_line import brief, printable
from postmean.contract.planes import to_planes
from postmean.importers.files.source import Source
from postmean.importers.layouts.labels import numbered_array
from postmean.importers.layouts.layout import Item, Layout, Wanted, chosen_label, no_splits, split_or_raise
from postmean.importers.layouts.splits import split_in, split_of, splits_among
from postmean.importers.notes import listed

_IMAGES = ("image", "img", "images", "jpg", "png", "jpeg", "webp", "pixels", "picture", "photo")
_LABELS = ("label", "labels", "cls", "class", "target", "fine_label", "class_id", "y")
ROWS = 64
"""Rows that are read at once."""


class Tables(Layout, ABC):
    """Images of a column, in the order of the files' names and of their rows.

    Raises:
        DataError: a table is damaged, holds images or labels of another kind than the first, or several data sets.
    """

    def __init__(self, source: Source, wanted: Wanted) -> None:
        self._source = source
        tables = self._tables(source)
        self._files = self._of_split(tables, wanted)
        schemas = [self._schema(name) for name in self._files]
        self._image = _image_column(schemas[0])
        if self._image is None:
            raise DataError(f"{source.place(self._files[0])}: no column of images in it, such as image or img")
        self.encoded = not _is_nested(schemas[0].field(self._image).type)
        for name, schema in zip(self._files, schemas, strict=True):
            if not schemas[0].equals(schema, check_metadata=False):
                raise DataError(f"{source.place(name)}: other columns than {self._files[0]}: give one data set")
        self.count = sum(map(self._rows, self._files))
        self._numbers: np.ndarray | None = None
        self._choose_label(schemas[0], wanted)
        self.ignored = tuple(name for name in source.names if name not in set(tables))

    def items(self) -> Iterator[Item]:
        done = 0
        for name in self._files:
            start = done
            for column in self._column(name, self._image or ""):
                for payload, called in self._payloads(column, name):
                    label = None if self._numbers is None else int(self._numbers[done])
                    shown = f" ({printable(called)})" if called else ""
                    yield Item(f"row {done - start}{shown} of {self._source.place(name)}", payload, label, called)
                    done += 1

    @staticmethod
    @abstractmethod
    def _tables(source: Source) -> list[str]:
        """The files of this kind that belong to the data set."""

    @abstractmethod
    def _schema(self, name: str) -> pa.Schema: ...

    @abstractmethod
    def _rows(self, name: str) -> int: ...

    @abstractmethod
    def _batches(self, name: str, column: str) -> Iterator[pa.Array]:
        """One column in parts of some rows."""

    def _column(self, name: str, column: str) -> Iterator[pa.Array]:
        batches = self._batches(name, column)
        while True:
            try:
                part = next(batches)
            except StopIteration:
                return
            except (pa.ArrowException, OSError, ValueError) as error:
                raise damaged(self._source, name, error) from error
            yield part

    def _of_split(self, tables: Sequence[str], wanted: Wanted) -> list[str]:
        chosen = list(tables)
        if there := splits_among(tables):
            split_or_raise(self._source, wanted, there, "this set of tables")
            chosen = [name for name in tables if split_in(name) == wanted.split]
            if others := [name for name in tables if split_in(name) is None]:
                self.notes += (f"tables of no split, not read: {listed(others)}",)
        else:
            no_splits(self._source, wanted, "these tables have")
        sets = {"/".join(p for p in name.split("/")[:-1] if split_of(p) is None) for name in chosen}
        if len(sets) > 1:
            raise DataError(f"{self._source.path}: several data sets, {listed(sorted(sets))}: give one of them")
        return chosen

    def _choose_label(self, schema: pa.Schema, wanted: Wanted) -> None:
        names = _class_names(schema)
        simple = [f.name for f in schema if pa.types.is_integer(f.type) or _is_text(f.type)]
        self.label_choices = tuple(simple)
        own = next((name for name in _LABELS if name in simple), None)
        own = own or (next(iter(names)) if len(names) == 1 else None)
        label = chosen_label(self._source, wanted, simple, own)
        lost = [field.name for field in schema if field.name not in (label, self._image)]
        if label is None:
            self.notes += ("no labels: no column is named label, cls, class or target",)
        else:
            parts = [part for name in self._files for part in self._column(name, label)]
            self._number(label, parts, names.get(label))
        if lost:
            self.notes += (f"columns that are not kept: {listed(lost)}",)

    def _number(self, label: str, parts: list[pa.Array], names: Sequence[str] | None) -> None:
        place = f"column {printable(label)} of {self._source.path}"
        column = pa.chunked_array(parts)
        if column.null_count:
            raise DataError(
                f"{place}: {column.null_count:,} rows without a label: choose another by --label, or fill them"
            )
        values = np.asarray(column.to_pylist()) if _is_text(column.type) else column.to_numpy()
        if values.dtype.kind in "iu" and len(values) and (values == -1).all():
            self.notes += (f"no labels: all of column {printable(label)} are -1",)
            return
        self._numbers, self.class_names = numbered_array(values, place)
        if names is None:
            return
        if len(self.class_names) > len(names) and values.dtype.kind in "iu":
            raise DataError(f"{place}: label {len(self.class_names) - 1}, and {len(names)} names of classes")
        self.class_names = tuple(map(printable, names))

    def _payloads(self, column: pa.Array, table: str) -> Iterator[tuple[bytes | np.ndarray, str]]:
        place = self._source.place(table)
        if not self.encoded:
            for planes in to_planes(_pixels(column, place), place):
                yield planes, ""
            return
        for row in column.to_pylist():
            data = row.get("bytes") if isinstance(row, dict) else row
            called = str(row.get("path") or "") if isinstance(row, dict) else ""
            if not isinstance(data, bytes):
                raise DataError(
                    f"{place}: a row {printable(called)} without the bytes of its image: save it with embedded files"
                )
            yield data, called


def images_column_in(schema: pa.Schema) -> bool:
    """Whether a table has a column of images."""
    return _image_column(schema) is not None


def _image_column(schema: pa.Schema) -> str | None:
    kinds = [field.name for field in schema if _is_encoded(field.type) or _is_nested(field.type)]
    named = [name for name in _IMAGES if name in kinds]
    declared = [name for name, feature in _features(schema).items() if feature.get("_type") == "Image"]
    structs = [name for name in kinds if pa.types.is_struct(schema.field(name).type)]
    best = [name for name in named if name in declared] or named or [name for name in declared if name in kinds]
    return best[0] if best else structs[0] if len(structs) == 1 else None


def _is_encoded(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_nested(kind: pa.DataType) -> bool:
    """Whether a cell is an array of two or three axes."""
    depth, kind = 0, getattr(kind, "storage_type", kind)
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        depth, kind = depth + 1, kind.value_type
    return depth in (2, 3) and pa.types.is_integer(kind)


def _pixels(column: pa.Array, place: str) -> np.ndarray:
    """A column of nested lists as one array."""
    values = getattr(column, "storage", column)
    shape = [len(values)]
    while not pa.types.is_integer(values.type):
        lengths = values.value_lengths().unique()
        if len(lengths) != 1 or lengths.null_count:
            raise DataError(f"{place}: arrays of several sizes, or a row without one: expected one size")
        shape.append(lengths[0].as_py())
        values = values.flatten()
    array = values.to_numpy(zero_copy_only=False)
    if array.dtype != np.uint8:
        raise DataError(f"{place}: arrays of {array.dtype}, expected uint8 0..255")
    return array.reshape(shape)


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What the `datasets` library notes of its columns."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Column -> the names of its classes, where the table gives them."""
    found = {}
    for column, feature in _features(schema).items():
        names = feature.get("names")
        if feature.get("_type") == "ClassLabel" and isinstance(names, list) and all(isinstance(n, str) for n in names):
            found[column] = names
    return found


def damaged(source: Source, name: str, error: Exception) -> DataError:
    """The error of a table that Arrow cannot read."""
    return DataError(f"{source.place(name)}: not a readable table ({brief(error)}): copy or download it again")
