"""ILSVRC 2012 as published: a tar of tars, one for each class, the tar of val, and the list of the devkit or Kaggle."""

import re
from importlib.resources import files

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.files.source import Source
from postmean.importers.files.text_tables import read_rows
from postmean.importers.layouts.layout import FileLayout, Wanted, split_or_raise
from postmean.importers.notes import listed

_VAL = re.compile(r"ILSVRC2012_(val|test)_0*(\d+)\.")
_WNID = re.compile(r"n\d{8}")
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_IDS = {str(number) for number in range(1, 1001)}
_KAGGLE = "LOC_val_solution.csv"


class Ilsvrc(FileLayout):
    """Images of one split, sorted by class and name, those of val and test by name.

    The label is the index of the class's WordNet id in sorted order, among the classes of train, else all thousand.

    Raises:
        DataError: a val image is in no list, or of a class that train lacks.
    """

    kind = "ilsvrc"
    title = "ILSVRC 2012"

    def __init__(self, source: Source, wanted: Wanted) -> None:
        self._source = source
        parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        outside = []
        for name in source.images:
            if match := _VAL.match(name.rpartition("/")[2]):
                parts[match[1]].append(name)
            elif _folder(name):
                parts["train"].append(name)
            else:
                outside.append(name)
        split_or_raise(source, wanted, [s for s in ("train", "val", "test") if parts[s]], "this ILSVRC")
        self._images = parts[wanted.split]
        self.count = len(self._images)
        classes = sorted({_folder(name) for name in parts["train"]}) or sorted(_published())
        numbers = {name: number for number, name in enumerate(classes)}
        read: set[str] = set()
        if wanted.split == "train":
            self._labels = {name: numbers[_folder(name)] for name in self._images}
        elif wanted.split == "val":
            self._labels = self._of_val(numbers, read)
        if self._labels is not None:
            self.class_names = tuple(classes)
        else:
            why = "test has none" if wanted.split == "test" else f"there is neither {_TRUTH} nor {_KAGGLE}"
            self.notes += (f"no labels: {why}",)
        if outside:
            self.notes += (f"images that are of no split, not read: {listed(outside)}",)
        self.ignored = tuple(n for names in source.bases.values() for n in names if n not in read)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether there are val images as they are named, outside class folders."""
        return any("ILSVRC2012_val_" in name and not _folder(name) for name in source.images)

    def _of_val(self, numbers: dict[str, int], read: set[str]) -> dict[str, int] | None:
        """Label of each val image: by its folder, or by a list."""
        classes = {name: _folder(name) for name in self._images}
        if not all(classes.values()):
            truth, kaggle = (self._source.bases.get(name, []) for name in (_TRUTH, _KAGGLE))
            if truth:
                ids, published = [row[0] for row in read_rows(self._source, truth[0], 1)], _published()
                by_number = {
                    i: published[int(n) - 1] for i, n in enumerate(ids, 1) if n.isdigit() and 0 < int(n) <= 1000
                }
                classes = {name: by_number.get(_number(name), "") for name in self._images}
            elif kaggle:
                rows = {row[0]: row[1].split()[0] for row in read_rows(self._source, kaggle[0], 2)}
                classes = {name: rows.get(name.rpartition("/")[2].partition(".")[0], "") for name in self._images}
            else:
                return None
            read.update(truth[:1] or kaggle[:1])
        for name, label in classes.items():
            if label not in numbers:
                why = f"of class {printable(label)}, which train lacks" if label else "in no list of labels"
                raise DataError(f"{self._source.place(name)}: {why}: download the lists again, or remove it")
        return {name: numbers[label] for name, label in classes.items()}


def _published() -> list[str]:
    """WordNet ids in the order of ILSVRC2012_ID."""
    text = files("postmean.importers.layouts").joinpath("imagenet_classes.txt").read_text()
    return [line.partition(" ")[0] for line in text.splitlines()]


def _folder(name: str) -> str:
    """The folder of a file if it is a WordNet id, else nothing."""
    parent = name.split("/")[-2] if "/" in name else ""
    return parent if _WNID.fullmatch(parent) else ""


def _number(name: str) -> int:
    match = _VAL.match(name.rpartition("/")[2])
    return int(match[2]) if match else 0
