"""Tiny ImageNet as published: train/WNID/images/*.JPEG, val/images with val_annotations.txt, test/images."""

from collections.abc import Iterator

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.config import Split
from postmean.importers.importer import Item
from postmean.importers.notes import listed
from postmean.importers.source import Source
from postmean.importers.suffixes import is_image
from postmean.importers.text_tables import read_rows

_CLASSES = "wnids.txt"
_ANNOTATIONS = "val/val_annotations.txt"


class TinyImageNet:
    """Images of one split, sorted by name; labels are indices into the sorted names of wnids.txt. test has no labels.

    Raises:
        DataError: a list is missing or damaged, there are no images of the split, or one has no class.
    """

    kind = "tiny-imagenet"
    encoded = True

    def __init__(self, source: Source, split: Split) -> None:
        self._source = source
        self._root = next((n for n in source.names if n.endswith(_ANNOTATIONS)), "").removesuffix(_ANNOTATIONS)
        folder = f"{self._root}{split}/"
        inside = [name for name in source.names if name.startswith(folder)]
        self._images = [name for name in inside if is_image(name)]
        if not self._images:
            raise DataError(f"{source.path}: no images in {printable(folder)}: pass another --split")
        self.count = len(self._images)
        classes = sorted({row[0] for row in read_rows(source, self._root + _CLASSES, 1)})
        numbers = {name: number for number, name in enumerate(classes)}
        self.class_names: tuple[str, ...] | None = None if split == "test" else tuple(map(printable, classes))
        self._labels = {} if split == "test" else self._numbered(split, numbers)
        self.ignored = tuple(
            name
            for name in source.names
            if name not in (self._root + _CLASSES, self._root + _ANNOTATIONS)
            and not is_image(name)
            and (name in inside or name.count("/") == self._root.count("/"))
        )
        self.notes: tuple[str, ...] = ("no labels: the test split has none",) if split == "test" else ()
        filled = set(self._labels.values())
        if self._labels and (empty := [name for name in classes if numbers[name] not in filled]):
            self.notes += (f"classes without images: {listed(empty)}: their labels stay theirs",)
        if split == "val":
            self.notes += ("bounding boxes of val_annotations.txt are not kept",)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether the source has wnids.txt and val/val_annotations.txt."""
        roots = [name.removesuffix(_ANNOTATIONS) for name in source.names if name.endswith(_ANNOTATIONS)]
        return len(roots) == 1 and roots[0] + _CLASSES in source.names

    def items(self) -> Iterator[Item]:
        for name in self._images:
            yield Item(self._source.place(name), self._source.read(name), self._labels.get(name))

    def _numbered(self, split: Split, numbers: dict[str, int]) -> dict[str, int]:
        """Image -> label."""
        if split == "train":
            of = {name: name.removeprefix(f"{self._root}train/").split("/")[0] for name in self._images}
        else:
            of = {}
            for row in read_rows(self._source, self._root + _ANNOTATIONS, 2):
                name = f"{self._root}val/images/{row[0]}"
                if of.setdefault(name, row[1]) != row[1]:
                    raise DataError(f"{self._source.place(name)}: of two classes in {_ANNOTATIONS}: download it again")
        for name in self._images:
            if of.get(name) not in numbers:
                where = _CLASSES if name in of else _ANNOTATIONS
                raise DataError(f"{self._source.place(name)}: of no class in {where}: download it again")
        return {name: numbers[of[name]] for name in self._images}
