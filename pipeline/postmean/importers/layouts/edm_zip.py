"""Data sets in the layout of EDM and EDM2: 00000/img00000000.png, and dataset.json with the labels."""

import re
from typing import Any

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.files.json_file import read_source_json
from postmean.importers.files.source import Source
from postmean.importers.layouts.labels import numbered
from postmean.importers.layouts.layout import FileLayout, Wanted, no_splits
from postmean.importers.notes import images, listed
from postmean.importers.pixels.suffixes import is_image

_LABELS = "dataset.json"
_LATENT = re.compile(r"(^|/)img-mean-std-\d+\.npy$")
_EXPECTED = '{"labels": [[name, label], ...] or null}'


class EdmZip(FileLayout):
    """All images in sorted order; labels 0..n-1 from dataset.json, no labels if it has null or is missing.

    Raises:
        DataError: no images, several dataset.json, another split than train, or labels that do not fit the images.
    """

    kind = "edm"
    title = "EDM or EDM2 data set: images and dataset.json"

    def __init__(self, source: Source, wanted: Wanted) -> None:
        no_splits(source, wanted, "an EDM zip has")
        if latent := next(filter(_LATENT.search, source.names), None):
            raise DataError(
                f"{source.place(latent)}: latents of an autoencoder, not pixels: targets are made of pixels: "
                "pass the zip that `dataset_tool.py convert` made"
            )
        self._source = source
        label_files = source.bases.get(_LABELS, [])
        if len(label_files) > 1:
            first, second = map(printable, label_files[:2])
            raise DataError(f"{source.path}: holds {first} and {second}: give the folder or zip of one data set")
        self._root = label_files[0].removesuffix(_LABELS) if label_files else ""
        found = source.images
        self._images = [name for name in found if name.startswith(self._root)]
        if not self._images:
            raise DataError(f"{source.path}: no .png or .jpg image in it: check the path")
        self.count = len(self._images)
        self.ignored = tuple(
            n for n in source.names if n.startswith(self._root) and not is_image(n) and n not in label_files
        )
        if self.count < len(found):
            self.notes += (f"{images(len(found) - self.count)} outside {printable(self._root)}, not read",)
        if not label_files:
            first = printable(self._images[0])
            self.notes += (f"no labels: there is no {_LABELS}; folders and names such as {first} are not kept",)
        elif (pairs := self._pairs()) is not None:
            self._labels, self.class_names = numbered(pairs, source.place, self._root + _LABELS)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether the source has a dataset.json file beside images, or latents."""
        return (bool(source.images) and _LABELS in source.bases) or any(map(_LATENT.search, source.bases))

    def _pairs(self) -> dict[str, Any] | None:
        """Image -> label as in dataset.json, exactly one per image; None if its labels are null."""
        file, source = self._root + _LABELS, self._source
        plain = read_source_json(source, file, _EXPECTED)
        if others := sorted(plain.keys() - {"labels"}):
            self.notes += (f"fields of {_LABELS} that are not kept: {listed(others)}",)
        labels = plain.get("labels", 0)
        if labels is None:
            return None
        if not isinstance(labels, list):
            raise DataError(f"{source.place(file)}: expected {_EXPECTED}: make the zip again")
        pairs: dict[str, Any] = {}
        for pair in labels:
            if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
                raise DataError(f"{source.place(file)}: expected {_EXPECTED}: make the zip again")
            name = self._root + pair[0].replace("\\", "/")
            if name in pairs:
                raise DataError(f"{source.place(name)}: labelled twice in {_LABELS}: make the zip again")
            pairs[name] = pair[1]
        for name in self._images:
            if name not in pairs:
                raise DataError(f"{source.place(name)}: no label in {_LABELS}: add it, or set labels to null")
        missing = sorted(pairs.keys() - set(self._images))
        if missing:
            raise DataError(f"{source.place(missing[0])}: labelled in {_LABELS} but not there: make the zip again")
        return pairs
