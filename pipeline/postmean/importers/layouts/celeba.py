"""CelebA as published: img_align_celeba/000001.jpg, and list_*.txt (or .csv) with splits, attributes and identities."""

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.config import Split
from postmean.importers.files.source import Source
from postmean.importers.files.text_tables import read_rows
from postmean.importers.layouts.labels import shown
from postmean.importers.layouts.layout import FileLayout, NoSplitError, Wanted, chosen_label
from postmean.importers.notes import images, listed

_PARTITION = ("list_eval_partition.txt", "list_eval_partition.csv")
_ATTRIBUTES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
_IDENTITIES = ("identity_CelebA.txt", "identity_CelebA.csv")
_OTHERS = tuple(f"list_{what}_celeba.{ext}" for ext in ("txt", "csv") for what in ("bbox", "landmarks_align"))
_FOLDERS = ("img_align_celeba", "img_align_celeba_png", "img_celeba")
_NUMBERS: dict[Split, str] = {"train": "0", "val": "1", "test": "2"}
_IDENTITY = "identity"


class CelebA(FileLayout):
    """Images of one split by list_eval_partition, sorted by name.

    CelebA has 40 attributes and no classes: without a wanted label there is none. An attribute makes the classes `not
    Male` (0) and `Male` (1); `identity` makes a class of each person of the whole list, in the order of their numbers.

    Raises:
        DataError: no images, two lists of one kind, or an image that a list lacks.
    """

    kind = "celeba"
    title = "CelebA"

    def __init__(self, source: Source, wanted: Wanted) -> None:
        self._source = source
        partition, attributes, identities = (self._list(names) for names in (_PARTITION, _ATTRIBUTES, _IDENTITIES))
        read = {partition}
        self._images = source.images if partition is None else self._of_split(partition, wanted.split)
        if partition is None:
            if wanted.split != "train":
                raise NoSplitError(
                    f"{source.path}: no {_PARTITION[0]} in it: put it beside the images, or leave out --split"
                )
            self.notes += (f"images of all splits: there is no {_PARTITION[0]}",)
        if not self._images:
            raise NoSplitError(f"{source.path}: no images of the {wanted.split} split in it: pass another --split")
        self.count = len(self._images)
        columns = self._attribute_names(attributes) if attributes else []
        self.label_choices = (*columns, *([_IDENTITY] if identities else []))
        label = chosen_label(source, wanted, self.label_choices, None)
        if label == _IDENTITY and identities:
            self._number(identities, 1, None)
            read.add(identities)
        elif label is not None and attributes:
            self._number(attributes, 1 + columns.index(label), label)
        elif columns:
            self.notes += (f"no labels: {len(columns)} attributes are there for --label, such as {columns[0]}",)
        if columns:
            read.add(attributes)
        if label is not None and (others := [name for name in columns if name != label]):
            self.notes += (f"attributes that are not kept: {listed(others)}",)
        self.ignored = tuple(name for names in source.bases.values() for name in names if name not in read)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether the source has images, and one of CelebA's lists or its folder of images."""
        lists = (*_PARTITION, *_ATTRIBUTES, *_IDENTITIES, *_OTHERS)
        return bool(source.images) and (
            not source.bases.keys().isdisjoint(lists)
            or any(folder.split("/")[-1] in _FOLDERS for folder in {n.rpartition("/")[0] for n in source.images})
        )

    def _list(self, names: tuple[str, ...]) -> str | None:
        """The one list of these names, None if there is none."""
        lists = [found for name in names for found in self._source.bases.get(name, [])]
        if len(lists) > 1:
            raise DataError(
                f"{self._source.path}: holds {printable(lists[0])} and {printable(lists[1])}: remove one of them"
            )
        return lists[0] if lists else None

    def _of_split(self, partition: str, split: Split) -> list[str]:
        found = self._source.images
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

    def _attribute_names(self, attributes: str) -> list[str]:
        """The header of the list, which is its second line, in a .csv file its first."""
        with self._source.stream(attributes) as file:
            lines = [file.readline(2**16).decode("utf-8", "replace").strip() for _ in range(2)]
        names = lines[0].split(",")[1:] if attributes.endswith(".csv") else lines[1].split()
        return [printable(name.strip()) for name in names]

    def _number(self, table: str, column: int, attribute: str | None) -> None:
        """Take labels from a column of a list: values of an attribute, or numbers of persons if that is None."""
        values = {_stem(row[0]): row[column] for row in read_rows(self._source, table, column + 1)}
        if attribute is None:
            persons = {value for stem, value in values.items() if stem.isdigit() and value.isdigit()}
            classes = sorted(persons, key=int)
            self.class_names = tuple(classes)
        else:
            classes = ["-1", "1"]
            self.class_names = (f"not {attribute}", attribute)
        numbers = {value: number for number, value in enumerate(classes)}
        for name in self._images:
            if (value := values.get(_stem(name))) not in numbers:
                what = f"{shown(value)} in" if value is not None else "not in"
                raise DataError(f"{self._source.place(name)}: {what} {table}: download it again")
        self._labels = {name: numbers[values[_stem(name)]] for name in self._images}


def _stem(name: str) -> str:
    return name.split("/")[-1].partition(".")[0]
