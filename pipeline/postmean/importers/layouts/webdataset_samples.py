"""WebDataset: samples whose members share a key, such as 000012.jpg, 000012.cls and 000012.json."""

import re
from collections import Counter
from typing import Any

from postmean.base.errors import DataError
from postmean.importers.files.json_file import read_source_json
from postmean.importers.files.opened import OpenedArchives
from postmean.importers.files.source import Source
from postmean.importers.files.tar_archive import TarSource
from postmean.importers.layouts.labels import numbered, shown, whole_number
from postmean.importers.layouts.layout import (
    FileLayout,
    Wanted,
    chosen_label,
    images_or_raise,
    no_splits,
    split_or_raise,
)
from postmean.importers.layouts.splits import split_in, splits_among
from postmean.importers.notes import images, listed
from postmean.importers.pixels.suffixes import is_image

_LABELS = ("cls", "class", "label", "target")
"""Extensions of members that hold a label alone, the most usual first."""
_FIELDS = ("label", "cls", "class", "target", "class_id", "label_id", "class_label", "category_id")
"""Fields of a .json member that hold the label."""

Samples = dict[str, dict[str, str]]
"""Key -> extension in small letters -> name."""


class WebDatasetSamples(FileLayout):
    """One image of each sample, sorted by shard and key, with the label of its .cls or .json member.

    The names of shards and their folders say which split they are of; without such names there are no splits.

    Raises:
        DataError: several images in a sample, a sample with a label and no image, labels for some samples only, or
            labels that are no classes.
    """

    kind = "webdataset"
    title = "WebDataset samples"

    def __init__(self, source: Source, wanted: Wanted) -> None:
        self._source, self._wanted = source, wanted
        samples = _samples(source)
        outside = 0
        if there := splits_among({key.rpartition("/")[0] for key in samples}):
            split_or_raise(source, wanted, there, "this set of shards")
            outside = sum(split_in(key.rpartition("/")[0]) is None for key in samples)
            samples = {key: value for key, value in samples.items() if split_in(key.rpartition("/")[0]) == wanted.split}
        else:
            no_splits(source, wanted, "WebDataset shards have")
        chosen = {key: image for key in sorted(samples) if (image := self._image(key, samples[key])) is not None}
        images_or_raise(source, chosen)
        self._images = list(chosen.values())
        self.count = len(self._images)
        self._fields: Counter[str] = Counter()
        labels, used = self._read_labels({image: samples[key] for key, image in chosen.items()})
        if labels:
            self._labels, self.class_names = numbered(labels, source.place, ".cls and .json members")
        read = used | set(self._images)
        self.ignored = tuple(name for members in samples.values() for name in members.values() if name not in read)
        fields = [f"{field} ({count:,})" for field, count in sorted(self._fields.items())]
        self.notes = (f"fields of .json members that are not kept: {listed(fields)}",) if fields else ()
        if not labels:
            self.notes += ("no labels: no sample has a .cls, or a .json with one",)
        if outside:
            self.notes += (f"{images(outside)} in shards of no split, not read",)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether images have labels beside them, or tars are made of samples and are no class folders."""
        if not source.images:
            return False
        samples = _samples(source)
        kinds: Counter[str] = Counter()
        folders: dict[str, set[str]] = {}  # shard -> folders of its images
        shards = _shards(source)
        for key, members in samples.items():
            if any(map(is_image, members.values())):
                folder = key.rpartition("/")[0]
                folders.setdefault(_shard_of(folder, shards), set()).add(folder)
                kinds.update(ext for ext, name in members.items() if not is_image(name))
        if any(kinds[ext] for ext in _LABELS):
            return True
        if kinds["json"] and _any_label_field(source, samples):
            return True
        if not shards or "?" in folders or any(len(inside) > 1 for inside in folders.values()):
            return False
        return bool(kinds) or (len(shards) > 1 and _is_series(shards))

    def _image(self, key: str, members: dict[str, str]) -> str | None:
        """The member that is the image of a sample, None if it has none."""
        found = [name for ext, name in members.items() if is_image(f".{ext}")]
        plain = [name for ext, name in members.items() if is_image(f".{ext}") and "." not in ext]
        chosen = plain or found  # key.jpg rather than key.mask.png
        if len(chosen) > 1:
            raise DataError(
                f"{self._source.place(chosen[1])}: a second image of sample {shown(key)}: leave one of them"
            )
        if not chosen and (labels := [members[ext] for ext in _LABELS if ext in members]):
            raise DataError(f"{self._source.place(labels[0])}: a label without an image: make the shard again")
        return chosen[0] if chosen else None

    def _read_labels(self, samples: Samples) -> tuple[dict[str, Any], set[str]]:
        """Image -> its label, for all images or for none; and the members that were read for it.

        Args:
            samples: image -> the members of its sample.
        """
        labels: dict[str, Any] = {}
        used: set[str] = set()
        choices: set[str] = set()
        own = self._wanted.label
        extensions, names = ((own,), (own,)) if own else (_LABELS, _FIELDS)
        for image, members in samples.items():
            member = next((members[ext] for ext in extensions if ext in members), None)
            choices.update(ext for ext in _LABELS if ext in members)
            if member is not None:
                labels[image] = whole_number(self._source.read(member).decode("utf-8", "backslashreplace").strip())
                used.add(member)
            if (described := members.get("json")) is not None:
                fields = read_source_json(self._source, described, "an object")
                used.add(described)
                field = next((name for name in names if name in fields), None) if member is None else None
                if field is not None:
                    labels[image] = fields[field]
                choices.update(name for name in fields if len(choices) < 1000)
                self._fields.update(name for name in fields if name != field and len(self._fields) < 1000)
        self.label_choices = tuple(sorted(choices))
        chosen_label(self._source, self._wanted, self.label_choices, None)
        for image in samples:
            if labels and image not in labels:
                raise DataError(
                    f"{self._source.place(image)}: no label beside it, as others have: make the shard again"
                )
        return labels, used


def _samples(source: Source) -> Samples:
    """The key ends at the first dot of the file's name."""
    samples: Samples = {}
    for name in source.names:
        folder, slash, base = name.rpartition("/")
        stem, dot, ext = base.partition(".")
        if ext.lower().split(".")[0] in _LABELS:
            ext = ext.split(".")[0]  # key.cls.txt is a label too
        if dot:
            samples.setdefault(f"{folder}{slash}{stem}", {})[ext.lower()] = name
    return samples


def _shards(source: Source) -> tuple[str, ...]:
    """The folders that stand for tars: the source itself if it is a tar."""
    if isinstance(source, OpenedArchives):
        return source.tars
    return ("",) if isinstance(source, TarSource) else ()


def _shard_of(folder: str, shards: tuple[str, ...]) -> str:
    """The shard that a folder lies in, "?" if it lies in none."""
    if shards == ("",):
        return ""
    known = set(shards)
    at = len(folder)
    while at > 0:
        if folder[:at] in known:
            return folder[:at]
        at = folder.rfind("/", 0, at)
    return "?"


def _is_series(shards: tuple[str, ...]) -> bool:
    """Whether shards are numbered one after the other, as classes are not: a-000, a-001, a-002."""
    parts = [re.fullmatch(r"(.*?)(\d+)", shard) for shard in shards]
    found = [(match[1], int(match[2])) for match in parts if match]
    by_stem: dict[str, list[int]] = {}
    for name, number in found:
        by_stem.setdefault(name, []).append(number)
    return len(found) == len(shards) and all(max(n) - min(n) == len(n) - 1 for n in by_stem.values())


def _any_label_field(source: Source, samples: Samples) -> bool:
    """Whether the first .json member beside an image has a field that holds a label."""
    for members in samples.values():
        if "json" in members and any(map(is_image, members.values())):
            try:
                fields = read_source_json(source, members["json"], "an object")
            except DataError:
                return False  # no description of a sample
            return any(field in fields for field in _FIELDS)
    return False
