"""Images without labels: all below a folder, whatever their folders and names say."""

from postmean.base.one_line import printable
from postmean.importers.files.source import Source
from postmean.importers.layouts.layout import SPLITS, FileLayout, Wanted, images_or_raise, no_splits, split_or_raise
from postmean.importers.layouts.splits import split_of
from postmean.importers.notes import images

_Loose = dict[str | None, list[str]]


class Flat(FileLayout):
    """Images sorted by name, of one split if they lie in folders named like splits.

    Raises:
        DataError: no images.
    """

    kind = "flat"
    title = "images without labels"

    def __init__(self, source: Source, wanted: Wanted) -> None:
        images_or_raise(source, source.images)
        self._source = source
        loose = loose_images(source)
        self._images = list(source.images)
        if loose is not None and None not in loose:
            split_or_raise(source, wanted, [split for split in SPLITS if split in loose], "this folder")
            self._images = loose[wanted.split]
        else:
            no_splits(source, wanted, "images without labels have")
        self.count = len(self._images)
        self.ignored = tuple(name for names in source.bases.values() for name in names)
        first = printable(self._images[0])
        self.notes = (f"no labels: {images(self.count)} such as {first}, whose folders and names are not kept",)

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether all images lie in one folder, or in one for each split."""
        return loose_images(source) is not None


def loose_images(source: Source) -> _Loose | None:
    """Split -> images that lie in its folder, {None: all} without splits; None if there are folders of classes."""
    folders = sorted({name.rpartition("/")[0] for name in source.images})
    if folders == [""] or (len(folders) == 1 and source.single):
        return {None: list(source.images)}
    splits = {folder: split_of(folder.split("/")[-1]) for folder in folders}
    if not folders or None in splits.values() or len({folder.rpartition("/")[0] for folder in folders}) > 1:
        return None
    if len(set(splits.values())) < len(splits):
        return None
    by_split: _Loose = {split: [] for split in splits.values()}
    for name in source.images:
        by_split[splits[name.rpartition("/")[0]]].append(name)
    return by_split
