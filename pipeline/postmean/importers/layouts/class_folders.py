"""Class folders as torchvision reads them: CLASS/*.jpg or png, optionally below train, test and val folders."""

from collections.abc import Iterator

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.config import Split
from postmean.importers.files.source import Source
from postmean.importers.layouts.class_root import ClassRoot, Parts, class_root
from postmean.importers.layouts.layout import FileLayout, NoSplitError, Wanted, images_or_raise
from postmean.importers.layouts.splits import split_of
from postmean.importers.notes import listed
from postmean.importers.pixels.suffixes import is_image


class ClassFolders(FileLayout):
    """Images of one split, sorted by class and name; the label is the class's index in sorted order.

    Every folder beside the class folders is a class, with or without images. The folders of the train split, if there
    is one, number the classes of every split. Outer folders that hold all the images, such as the root of an archive,
    are skipped.

    Raises:
        DataError: no images, no such split, images outside class folders, or classes that the train split lacks.
    """

    kind = "folders"
    title = "class folders of images"

    def __init__(self, source: Source, wanted: Wanted) -> None:
        self._source, split = source, wanted.split
        found = [tuple(name.split("/")) for name in source.images]
        images_or_raise(source, found)
        root = class_root(source, found, split)
        self._depth = len(root.path)
        inside = sorted(parts for parts in found if parts[: self._depth] == root.path)
        for parts in inside:
            if len(parts) == self._depth + 1:
                raise DataError(
                    f"{source.place('/'.join(parts))}: lies in no class folder: "
                    "move images into folders named by class, or pass --kind flat for images without labels"
                )
        self._parts = inside if root.is_split else self._of_split(inside, split)
        classes = self._classes(root)
        self.class_names = tuple(printable(name) for name in classes)
        numbers = {name: label for label, name in enumerate(classes)}
        self._labels = {"/".join(parts): numbers[parts[self._depth]] for parts in self._parts}
        self._images = list(self._labels)
        self.count = len(self._images)
        prefix = "".join(f"{part}/" for part in root.path)
        self.ignored = tuple(n for n in source.names if n.startswith(prefix) and not is_image(n))
        self.notes = (*root.notes, *self._notes(classes))

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether there are images: no layout but this one is left for them."""
        return bool(source.images)

    def _classes(self, root: ClassRoot) -> list[str]:
        """Names of the classes in the order of their labels."""
        here = self._source.folders_in("/".join(root.path))
        if root.train is None or root.train == root.path:
            return here
        known = self._source.folders_in("/".join(root.train))
        new = sorted({parts[self._depth] for parts in self._parts} - set(known))
        if new:
            raise DataError(
                f"{self._source.place('/'.join((*root.path, new[0])))}: no class of this name in "
                f"{self._source.place('/'.join(root.train))}: rename it, or import this folder alone"
            )
        return known

    def _of_split(self, inside: list[Parts], split: Split) -> list[Parts]:
        """The images of the split where each class has its own train, test or val folders; else all of them."""
        splits = [split_of(parts[self._depth + 1]) if len(parts) > self._depth + 2 else None for parts in inside]
        if None not in splits:
            inside = [parts for parts, which in zip(inside, splits, strict=True) if which == split]
            if not inside:
                raise NoSplitError(f"{self._source.path}: no {split} folder in any class: pass another --split")
        elif split != "train":
            raise NoSplitError(f"{self._source.path}: no train, test or val folders in it: leave out --split {split}")
        return inside

    def _notes(self, classes: list[str]) -> Iterator[str]:
        filled = {parts[self._depth] for parts in self._parts}
        if empty := [name for name in classes if name not in filled]:
            yield f"class folders without images: {listed(empty)}: their labels stay theirs"
        if len(classes) == 1:
            yield f"all images are of one class, named after its folder: {printable(classes[0])}"
        inner = sorted({parts[self._depth + 1 : -1] for parts in self._parts})
        if len(inner) > 1:
            named = ["/".join(parts) for parts in inner if parts]
            yield f"folders inside classes are not labels: {listed(named)}"
