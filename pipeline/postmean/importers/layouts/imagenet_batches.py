"""Downsampled ImageNet as published (Chrabaszcz et al. 2017): train_data_batch_1..10 and val_data, pickles or .npz."""

import math
import posixpath
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.config import Split
from postmean.importers.files.source import Source
from postmean.importers.files.text_tables import read_rows
from postmean.importers.layouts.array_file import ArrayFile, open_array
from postmean.importers.layouts.layout import Item, Layout, Wanted, split_or_raise
from postmean.importers.layouts.pickles import read_pickle
from postmean.importers.notes import listed

_BATCH = re.compile(r"(train)_data_batch_(\d+)|(val)_data")
_NAMES = "map_clsloc.txt"
_BATCHES = 10


class ImageNetBatches(Layout):
    """Images in the order of the batches; label k - 1 is the k-th class of map_clsloc.txt.

    Raises:
        DataError: a batch is damaged or there twice, or a label is not 1..1000.
    """

    kind = "imagenet-batches"
    title = "downsampled ImageNet in batches"
    encoded = False

    def __init__(self, source: Source, wanted: Wanted) -> None:
        self._source = source
        found = _batches(source)
        there: list[Split] = [split for split in ("train", "val") if any(of == split for of, _ in found)]
        split_or_raise(source, wanted, there, "downsampled ImageNet")
        self._batches = [found[key] for key in sorted(found) if key[0] == wanted.split]
        self.class_names = self._names()
        used: set[str] = set()
        self.count, size = 0, 0
        for place in self._batches:
            if place in source.names:  # a pickle says how many images it holds only when it is read whole
                if not size:
                    data, _ = self._pickled(place)
                    size = source.size(place) / len(data)
                self.count += round(source.size(place) / size)
                used.add(place)
            else:
                arrays = self._arrays(place)
                self.count += arrays[0].shape[0]
                used |= {array.name for array in arrays}
        self.notes = tuple(self._notes(found, wanted.split))
        batches = set(found.values())
        if any(posixpath.dirname(name) in batches for name in source.bases.get("mean.npy", [])):
            self.notes += ("the mean image of the batches is not kept",)
        read = {*batches, *source.bases.get(_NAMES, [])}
        self.ignored = tuple(n for n in source.names if n not in read and posixpath.dirname(n) not in batches)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether a file, or an archive that is open, is named as a batch."""
        return bool(_batches(source))

    def items(self) -> Iterator[Item]:
        for batch in self._batches:
            if batch in self._source.names:
                place = self._source.place(batch)
                data, labels = self._pickled(batch)
                chunks: Any = [data]
            else:
                images, numbers = self._arrays(batch)
                place, labels, chunks = images.place, self._zero_based(numbers.whole(), numbers.place), images.chunks()
            done = 0
            for chunk in chunks:
                side = math.isqrt(chunk.shape[1] // 3)
                for pixels in chunk.reshape(-1, 3, side, side):
                    yield Item(f"image {done} of {place}", pixels, int(labels[done]))
                    done += 1

    def _pickled(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [n, D] and labels from 0."""
        place = self._source.place(name)
        plain = read_pickle(self._source, name)
        fields = plain.items() if isinstance(plain, dict) else ()
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in fields}
        data, labels = batch.get("data"), batch.get("labels")
        if not isinstance(data, np.ndarray) or not _is_square(data.shape, data.dtype):
            raise DataError(f"{place}: expected data as uint8 [n, 3 side side] and n labels: copy or download it again")
        others = sorted(printable(str(key)) for key in batch if key not in ("data", "labels"))
        if others and not any("batches that" in note for note in self.notes):
            self.notes += (f"fields of the batches that are not kept: {listed(others)}",)
        try:
            numbers = np.asarray(labels)
        except ValueError:
            numbers = np.empty(0)
        if numbers.shape != (len(data),):
            raise DataError(f"{place}: expected a label for each of {len(data):,} images: copy or download it again")
        return data, self._zero_based(numbers, place)

    def _arrays(self, folder: str) -> tuple[ArrayFile, ArrayFile]:
        data = open_array(self._source, f"{folder}/data.npy")
        labels = open_array(self._source, f"{folder}/labels.npy")
        if not _is_square(data.shape, data.dtype) or labels.shape != data.shape[:1]:
            raise DataError(f"{data.place}: expected uint8 [n, 3 side side] and n labels: copy or download it again")
        return data, labels

    def _zero_based(self, labels: np.ndarray, place: str) -> np.ndarray:
        classes = len(self.class_names or ())
        if labels.dtype.kind not in "iu":
            raise DataError(f"{place}: labels of type {labels.dtype}: expected whole numbers 1..{classes}")
        least, most = int(labels.min(initial=1)), int(labels.max(initial=1))
        if least < 1 or most > classes:
            raise DataError(f"{place}: labels {least}..{most}: expected 1..{classes}")
        return labels.astype(np.int64) - 1

    def _names(self) -> tuple[str, ...]:
        """`n02119789 kit_fox`, ... in the order of labels: from the source's own list, else from ours."""
        lists = self._source.bases.get(_NAMES, [])
        if not lists:
            text = files("postmean.importers.layouts").joinpath("imagenet_classes.txt").read_text()
            return tuple(text.splitlines())
        table = read_rows(self._source, lists[0], 3)
        rows = sorted((int(row[1]), f"{row[0]} {row[2]}") for row in table if row[1].isdigit())
        if [number for number, _ in rows] != list(range(1, len(rows) + 1)):
            raise DataError(f"{self._source.place(lists[0])}: its classes are not numbered 1, 2, ...: get it again")
        return tuple(printable(name) for _, name in rows)

    def _notes(self, found: dict[tuple[str, int], str], split: Split) -> Iterator[str]:
        yield "labels are 0-based, in the order of map_clsloc.txt, which is not that of sorted class folders"
        missing = [f"train_data_batch_{i}" for i in range(1, _BATCHES + 1) if ("train", i) not in found]
        if split == "train" and missing:
            yield f"of {_BATCHES} batches {listed(missing)} {'is' if len(missing) == 1 else 'are'} not there"


def _batches(source: Source) -> dict[tuple[str, int], str]:
    """Split and number -> the pickle, or the folder that stands for an .npz archive."""
    found: dict[tuple[str, int], str] = {}
    places = [name for base in source.bases for name in source.bases[base] if _BATCH.fullmatch(base)]
    places += [folder for folder in source.folders if f"{folder}/data.npy" in source.bases.get("data.npy", [])]
    for place in places:
        if match := _BATCH.fullmatch(posixpath.basename(place)):
            key = (match[1] or match[3], int(match[2] or 0))
            if key in found:
                raise DataError(f"{source.place(place)}: {printable(found[key])} is the same batch: remove one of them")
            found[key] = place
    return found


def _is_square(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    return dtype == np.uint8 and len(shape) == 2 and shape[0] > 0 and 3 * math.isqrt(shape[1] // 3) ** 2 == shape[1] > 0
