"""Class folders as torchvision reads them: CLASS/*.{jpeg,jpg,png}, optionally below train, test and val folders."""

from collections.abc import Iterator

from postmean.base.errors import DataError
from postmean.importers.config import Split
from postmean.importers.importer import Item, is_image
from postmean.importers.sources import Source

_SPLITS = ("train", "test", "val")


class ClassFolders:
    """Images of one split, sorted by class and name; the label is the class's index in sorted order.

    Outer folders that hold all the images, such as the root of an archive, are skipped.

    Raises:
        DataError: no images, no such split, or images outside class folders.
    """

    kind = "folders"
    encoded = True

    def __init__(self, source: Source, split: Split) -> None:
        self._source = source
        images = [tuple(name.split("/")) for name in source.names if is_image(name)]
        if not images:
            raise DataError(f"{source.path}: no .jpg, .jpeg or .png image in it: check the path")
        root = _class_root(source, images, split)
        self._depth = len(root)
        self._images = sorted(parts for parts in images if parts[: len(root)] == root)
        classes = {parts[len(root)] for parts in self._images}
        for parts in self._images:
            if len(parts) == len(root) + 1 or classes <= set(_SPLITS):
                raise DataError(
                    f"{source.place('/'.join(parts))}: lies in no class folder: "
                    "move images into folders named by class, or pass --kind edm for images without labels"
                )
        self.class_names: tuple[str, ...] | None = tuple(sorted(classes))
        self.count = len(self._images)
        prefix = "".join(f"{part}/" for part in root)
        self.ignored = tuple(n for n in source.names if n.startswith(prefix) and not is_image(n))

    def items(self) -> Iterator[Item]:
        labels = {name: label for label, name in enumerate(self.class_names or ())}
        for parts in self._images:
            name = "/".join(parts)
            yield Item(self._source.place(name), self._source.read(name), labels[parts[self._depth]])


def _class_root(source: Source, images: list[tuple[str, ...]], split: Split) -> tuple[str, ...]:
    """The folder that holds the class folders, as path components."""
    depth = 0
    while True:
        folders = {parts[depth] for parts in images}
        splits = [name for name in _SPLITS if name in folders]
        # a folder named train is a split if it holds class folders, a class if it holds images
        if splits and all(len(parts) >= depth + 3 for parts in images if parts[depth] in splits):
            if split not in splits:
                raise DataError(f"{source.path}: no {split} folder, there is {', '.join(splits)}: pass another --split")
            return (*images[0][:depth], split)
        if len(folders) > 1 or min(map(len, images)) < depth + 3:
            break
        depth += 1
    if split != "train":
        raise DataError(f"{source.path}: no train, test or val folders in it: leave out --split {split}")
    return images[0][:depth]
