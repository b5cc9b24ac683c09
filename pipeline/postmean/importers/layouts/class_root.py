"""Where the class folders of a source are: below outer folders, and below the folder of one split."""

from collections import Counter
from dataclasses import dataclass

from postmean.base.errors import DataError
from postmean.importers.config import Split
from postmean.importers.files.source import Source
from postmean.importers.layouts.layout import NoSplitError
from postmean.importers.layouts.splits import split_of
from postmean.importers.notes import images, listed

Parts = tuple[str, ...]
"""A path as its components."""


@dataclass(frozen=True)
class ClassRoot:
    """The folder that holds the class folders."""

    path: Parts
    is_split: bool
    """Whether it is the folder of a split."""
    train: Parts | None
    """The folder of the train split, which numbers the classes of every split; None if there is none."""
    notes: tuple[str, ...]
    """What lies beside the way to it and is not read."""


def class_root(source: Source, found: list[Parts], split: Split) -> ClassRoot:
    """Go down through outer folders that hold all images, up to class folders or the folders of splits.

    Args:
        found: paths of the images, not empty.
    Raises:
        DataError: there is no such split, or a folder may be a split or a class.
    """
    notes: list[str] = []
    depth = 0
    while True:
        above = found[0][:depth]
        loose = [parts for parts in found if len(parts) == depth + 1]
        # folder -> whether its images lie in folders inside it
        nested: dict[str, bool] = {}
        for parts in found:
            if len(parts) > depth + 1:
                nested[parts[depth]] = nested.get(parts[depth], True) and len(parts) >= depth + 3
        splits: dict[str, Split] = {name: which for name in sorted(nested) if (which := split_of(name)) is not None}
        if splits and _are_splits(source, above, nested, splits, split):
            return _of_split(source, found, above, splits, split, notes)
        if loose or len(nested) > 1 or not all(nested.values()):
            break
        notes += _beside(source, above, set(nested))
        depth += 1
    return ClassRoot(found[0][:depth], False, None, tuple(notes))


def _are_splits(source: Source, above: Parts, nested: dict[str, bool], splits: dict[str, Split], split: Split) -> bool:
    """Whether folders named like splits are splits here; beside folders of other names they may be classes."""
    others = nested.keys() - splits.keys()
    if not others:
        return True
    asked = [name for name, which in splits.items() if which == split] or list(splits)
    if not all(nested[name] for name in asked):
        return False  # a class named train
    if len(splits) == 1:
        place = source.place("/".join((*above, asked[0])))
        raise DataError(
            f"{place}: a split, or a class like {listed(sorted(others))}? "
            "give that folder itself as the source, or rename it"
        )
    return True


def _of_split(
    source: Source, found: list[Parts], above: Parts, splits: dict[str, Split], split: Split, notes: list[str]
) -> ClassRoot:
    asked = [name for name, which in splits.items() if which == split]
    if not asked:
        there = ", ".join(sorted(set(splits.values())))
        raise NoSplitError(f"{source.path}: no {split} folder, there is {there}: pass another --split")
    if len(asked) > 1:
        raise DataError(f"{source.path}: {listed(asked)} all mean {split}: remove or rename all but one")
    counts = Counter(parts[len(above)] if len(parts) > len(above) + 1 else "" for parts in found)
    for name, count in sorted(counts.items()):
        if name not in splits:
            what = source.place("/".join((*above, name))) if name else "no folder"
            notes = [*notes, f"{images(count)} in {what}, outside the splits, not read"]
    train = next((name for name, which in splits.items() if which == "train"), None)
    return ClassRoot((*above, asked[0]), True, None if train is None else (*above, train), tuple(notes))


def _beside(source: Source, above: Parts, read: set[str]) -> list[str]:
    others = sorted(set(source.folders_in("/".join(above))) - read)
    return [f"no images in folders {listed(others)}, not read"] if others else []
