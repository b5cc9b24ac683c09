"""CelebA as published: img_align_celeba/000001.jpg, and list_*.txt (or .csv) with splits and attributes."""

from collections.abc import Iterator

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.config import Split
from postmean.importers.files.source import Source
from postmean.importers.files.text_tables import read_rows
from postmean.importers.layouts.layout import Item
from postmean.importers.notes import images
from postmean.importers.pixels.suffixes import is_image

_PARTITION = ("list_eval_partition.txt", "list_eval_partition.csv")
_LISTS = (
    *_PARTITION,
    *(f"{name}.{ext}" for ext in ("txt", "csv") for name in ("identity_CelebA", "list_attr_celeba")),
    *(f"{name}.{ext}" for ext in ("txt", "csv") for name in ("list_bbox_celeba", "list_landmarks_align_celeba")),
)
_FOLDERS = ("img_align_celeba", "img_align_celeba_png", "img_celeba")
_NUMBERS: dict[Split, str] = {"train": "0", "val": "1", "test": "2"}


class CelebA:
    """Images of one split by list_eval_partition, sorted by name, without labels: CelebA has attributes, not classes.

    Raises:
        DataError: no images, two partition lists, or an image that the list lacks.
    """

    kind = "celeba"
    encoded = True

    def __init__(self, source: Source, split: Split) -> None:
        self._source = source
        found = [name for name in source.names if is_image(name)]
        lists = [name for name in source.names if name.split("/")[-1] in _PARTITION]
        if len(lists) > 1:
            raise DataError(f"{source.path}: holds {printable(lists[0])} and {printable(lists[1])}: remove one of them")
        self.class_names: tuple[str, ...] | None = None
        self.notes: tuple[str, ...] = ()
        self._images = self._of_split(found, lists[0], split) if lists else found
        if not lists:
            if split != "train":
                raise DataError(
                    f"{source.path}: no {_PARTITION[0]} in it: put it beside the images, or leave out --split"
                )
            self.notes += (f"images of all splits: there is no {_PARTITION[0]}",)
        if not self._images:
            raise DataError(f"{source.path}: no images of the {split} split in it: pass another --split")
        self.count = len(self._images)
        self.ignored = tuple(name for name in source.names if not is_image(name) and name not in lists)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether the source has one of CelebA's lists, or its folder of images."""
        bases = {name.split("/")[-1] for name in source.names}
        return not bases.isdisjoint(_LISTS) or any(
            is_image(name) and name.split("/")[-2:-1] in ([folder] for folder in _FOLDERS) for name in source.names
        )

    def items(self) -> Iterator[Item]:
        for name in self._images:
            yield Item(self._source.place(name), self._source.read(name), None)

    def _of_split(self, found: list[str], partition: str, split: Split) -> list[str]:
        numbers: dict[str, str] = {}
        for row in read_rows(self._source, partition, 2):
            if row[1] in _NUMBERS.values() and numbers.setdefault(_stem(row[0]), row[1]) != row[1]:
                raise DataError(f"{self._source.place(partition)}: {row[0]} is in two splits: download it again")
        for name in found:
            if _stem(name) not in numbers:
                raise DataError(f"{self._source.place(name)}: not in {partition}: remove it")
        missing = numbers.keys() - {_stem(name) for name in found}
        if missing:
            self.notes += (f"{images(len(missing))} of {partition} not there, such as {printable(min(missing))}",)
        return [name for name in found if numbers[_stem(name)] == _NUMBERS[split]]


def _stem(name: str) -> str:
    return name.split("/")[-1].partition(".")[0]
