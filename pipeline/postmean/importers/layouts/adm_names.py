"""Images whose class is the part of their name before `_`, in one folder, as ADM and improved diffusion read them."""

from collections.abc import Sequence

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.files.source import Source
from postmean.importers.layouts.flat import loose_images
from postmean.importers.layouts.layout import SPLITS, FileLayout, Wanted, images_or_raise, no_splits, split_or_raise
from postmean.importers.notes import listed


class AdmNames(FileLayout):
    """Images sorted by name; the label is the index of what stands before the first `_`, in sorted order.

    The images of the train split, if there is one, number the classes of every split.

    Raises:
        DataError: no images, or one of a class that the train split lacks.
    """

    kind = "adm"
    title = "images named CLASS_*"

    def __init__(self, source: Source, wanted: Wanted) -> None:
        images_or_raise(source, source.images)
        self._source = source
        loose = _loose(source) or {None: list(source.images)}
        if None in loose:
            no_splits(source, wanted, "images named by class have")
            self._images, train = loose[None], loose[None]
        else:
            split_or_raise(source, wanted, [split for split in SPLITS if split in loose], "this folder")
            self._images = loose[wanted.split]
            train = loose.get("train", self._images)
        classes = sorted(set(map(_prefix, train)))
        numbers = {name: number for number, name in enumerate(classes)}
        for name in self._images:
            if _prefix(name) not in numbers:
                raise DataError(f"{source.place(name)}: of a class that the train split lacks: rename or remove it")
        self._labels = {name: numbers[_prefix(name)] for name in self._images}
        self.class_names = tuple(map(printable, classes))
        self.count = len(self._images)
        self.ignored = tuple(name for names in source.bases.values() for name in names)
        self.notes = (
            f"classes are what stands before _ in names: {listed(classes[:5])}{', ...' if len(classes) > 5 else ''}; "
            "--kind flat leaves them out",
        )

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether images in one folder are named so, by at least two classes that begin with a letter."""
        return any(_is_named_by_class(names) for names in (_loose(source) or {}).values())


def _loose(source: Source) -> dict[str | None, list[str]] | None:
    """As `loose_images`, also where one folder holds all, such as the root of an archive."""
    folders = {name.rpartition("/")[0] for name in source.images}
    return {None: list(source.images)} if len(folders) == 1 else loose_images(source)


def _is_named_by_class(names: Sequence[str]) -> bool:
    bases = [name.rpartition("/")[2] for name in names]
    if not all("_" in base and base[0].isalpha() for base in bases):
        return False
    classes = {base.partition("_")[0] for base in bases}
    return 2 <= len(classes) <= len(bases) // 2


def _prefix(name: str) -> str:
    return name.rpartition("/")[2].partition("_")[0]
