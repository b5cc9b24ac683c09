"""WebDataset: samples whose members share a key, such as 000012.jpg, 000012.cls and 000012.json."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from postmean.base.errors import DataError
from postmean.importers.config import Split
from postmean.importers.files.json_file import read_source_json
from postmean.importers.files.source import Source
from postmean.importers.files.tar_archive import TarSource
from postmean.importers.layouts.labels import numbered, shown, whole_number
from postmean.importers.layouts.layout import Item
from postmean.importers.notes import listed
from postmean.importers.pixels.suffixes import is_image

_LABELS = ("cls", "class", "label", "target")
"""Extensions of members that hold a label alone, the most usual first."""
_FIELDS = ("label", "cls", "class", "target", "class_id", "label_id", "class_label", "category_id")
"""Fields of a .json member that hold the label."""


class WebDatasetSamples:
    """One image of each sample, sorted by key, with the label of its .cls or .json member.

    Raises:
        DataError: several images in a sample, a sample with a label and no image, labels for some samples only, or
            labels that are no classes.
    """

    kind = "webdataset"
    encoded = True

    def __init__(self, source: Source, split: Split) -> None:
        if split != "train":
            raise DataError(f"{source.path}: WebDataset shards have no splits: leave out --split {split}")
        self._source = source
        self._samples = _samples(source)
        self._images = {key: image for key in sorted(self._samples) if (image := self._image(key)) is not None}
        if not self._images:
            raise DataError(f"{source.path}: no image in it (.jpg, .png, ...): check the path")
        self.count = len(self._images)
        self._fields: Counter[str] = Counter()
        labels, used = self._labels()
        self._numbers: dict[str, int] | None = None
        self.class_names: tuple[str, ...] | None = None
        if labels:
            self._numbers, self.class_names = numbered(labels, source.place, ".cls and .json members")
        read = used | set(self._images.values())
        self.ignored = tuple(name for name in source.names if name not in read)
        fields = [f"{field} ({count:,})" for field, count in sorted(self._fields.items())]
        self.notes = (f"fields of .json members that are not kept: {listed(fields)}",) if fields else ()
        if not labels:
            self.notes += ("no labels: no sample has a .cls, or a .json with one",)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether images have labels beside them, or a tar is made of samples and has no class folders."""
        kinds: Counter[str] = Counter()
        folders = set()
        for key, members in _samples(source).items():
            if any(map(is_image, members.values())):
                folders.add(key.rpartition("/")[0])
                kinds.update(ext for ext, name in members.items() if not is_image(name))
        if any(kinds[ext] for ext in _LABELS):
            return True
        if kinds["json"] and _any_label_field(source):
            return True
        return isinstance(source, TarSource) and bool(kinds) and len(folders) == 1

    def items(self) -> Iterator[Item]:
        for name in self._images.values():
            label = None if self._numbers is None else self._numbers[name]
            yield Item(self._source.place(name), self._source.read(name), label)

    def _image(self, key: str) -> str | None:
        """The member that is the image of a sample, None if it has none."""
        members = self._samples[key]
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

    def _labels(self) -> tuple[dict[str, Any], set[str]]:
        """Image -> its label, for all images or for none; and the members that were read for it."""
        labels: dict[str, Any] = {}
        used: set[str] = set()
        for key, image in self._images.items():
            members = self._samples[key]
            member = next((members[ext] for ext in _LABELS if ext in members), None)
            if member is not None:
                labels[image] = whole_number(self._source.read(member).decode("utf-8", "backslashreplace").strip())
                used.add(member)
            if (described := members.get("json")) is not None:
                fields = read_source_json(self._source, described, "an object")
                used.add(described)
                field = next((name for name in _FIELDS if name in fields), None) if member is None else None
                if field is not None:
                    labels[image] = fields[field]
                self._fields.update(name for name in fields if name != field and len(self._fields) < 1000)
        for image in self._images.values():
            if labels and image not in labels:
                raise DataError(
                    f"{self._source.place(image)}: no label beside it, as others have: make the shard again"
                )
        return labels, used


def _samples(source: Source) -> dict[str, dict[str, str]]:
    """Key -> extension in small letters -> name; the key ends at the first dot of the file's name."""
    samples: dict[str, dict[str, str]] = {}
    for name in source.names:
        folder, slash, base = name.rpartition("/")
        stem, dot, ext = base.partition(".")
        if ext.lower().split(".")[0] in _LABELS:
            ext = ext.split(".")[0]  # key.cls.txt is a label too
        if dot:
            samples.setdefault(f"{folder}{slash}{stem}", {})[ext.lower()] = name
    return samples


def _any_label_field(source: Source) -> bool:
    """Whether the first .json member beside an image has a field that holds a label."""
    for members in _samples(source).values():
        if "json" in members and any(map(is_image, members.values())):
            try:
                fields = read_source_json(source, members["json"], "an object")
            except DataError:
                return False  # no description of a sample
            return any(field in fields for field in _FIELDS)
    return False
