"""Tiny ImageNet as published: train/WNID/images/*.JPEG, val/images with val_annotations.txt, test/images."""

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.config import Split
from postmean.importers.files.source import Source
from postmean.importers.files.text_tables import read_rows
from postmean.importers.layouts.layout import FileLayout, NoSplitError, Wanted
from postmean.importers.notes import listed
from postmean.importers.pixels.suffixes import is_image

_CLASSES = "wnids.txt"
_ANNOTATIONS = "val_annotations.txt"


class TinyImageNet(FileLayout):
    """Images of one split, sorted by name; the label is the class's index in sorted order. test has no labels.

    The classes are those of wnids.txt, else of the train folder, else of val_annotations.txt. A source that is the val
    folder alone needs no --split.

    Raises:
        DataError: a list is damaged, there are no images of the split, or one has no class.
    """

    kind = "tiny-imagenet"
    title = "Tiny ImageNet as published"

    def __init__(self, source: Source, wanted: Wanted) -> None:
        self._source, split = source, wanted.split
        annotations = source.bases.get(_ANNOTATIONS, [])
        if len(annotations) != 1:
            raise DataError(f"{source.path}: {len(annotations)} {_ANNOTATIONS} in it, expected one: give one data set")
        self._annotations = annotations[0]
        self._val = self._annotations.removesuffix(_ANNOTATIONS)
        self._root = self._val.removesuffix("val/")
        if not any(name.startswith(f"{self._root}train/") for name in source.names) and split == "train":
            split = "val"
        folder = self._val if split == "val" else f"{self._root}{split}/"
        inside = [name for name in source.names if name.startswith(folder)]
        self._images = [name for name in inside if is_image(name)]
        if not self._images:
            raise NoSplitError(f"{source.path}: no images in {printable(folder)}: pass another --split")
        self.count = len(self._images)
        classes = self._classes()
        numbers = {name: number for number, name in enumerate(classes)}
        self.class_names = None if split == "test" else tuple(map(printable, classes))
        self._labels = None if split == "test" else self._numbered(split, numbers)
        beside = {name for name in source.names if name.startswith(self._root) and "/" not in name[len(self._root) :]}
        lists = {self._root + _CLASSES, self._annotations}
        self.ignored = tuple(n for n in sorted(beside.union(inside) - lists) if not is_image(n))
        self.notes = ("no labels: the test split has none",) if split == "test" else ()
        filled = set((self._labels or {}).values())
        if self._labels and (empty := [name for name in classes if numbers[name] not in filled]):
            self.notes += (f"classes without images: {listed(empty)}: their labels stay theirs",)
        if split == "val":
            self.notes += (f"bounding boxes of {_ANNOTATIONS} are not kept",)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether the source has a val_annotations.txt file beside images."""
        return _ANNOTATIONS in source.bases and bool(source.images)

    def _classes(self) -> list[str]:
        if self._root + _CLASSES in self._source.names:
            return sorted({row[0] for row in read_rows(self._source, self._root + _CLASSES, 1)})
        folders = self._source.folders_in(f"{self._root}train")
        return folders or sorted({row[1] for row in read_rows(self._source, self._annotations, 2)})

    def _numbered(self, split: Split, numbers: dict[str, int]) -> dict[str, int]:
        """Image -> label."""
        if split == "train":
            of = {name: name.removeprefix(f"{self._root}train/").split("/")[0] for name in self._images}
        else:
            of = {}
            for row in read_rows(self._source, self._annotations, 2):
                name = f"{self._val}images/{row[0]}"
                if of.setdefault(name, row[1]) != row[1]:
                    raise DataError(f"{self._source.place(name)}: of two classes in {_ANNOTATIONS}: download it again")
        for name in self._images:
            if of.get(name) not in numbers:
                where = _CLASSES if name in of else _ANNOTATIONS
                raise DataError(f"{self._source.place(name)}: of no class in {where}: download it again")
        return {name: numbers[of[name]] for name in self._images}
