"""Names of folders and files that hold the parts of a data set rather than classes."""

import re
from collections.abc import Iterable

from postmean.importers.config import Split

_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
}  # type: ignore[assignment]
_FORM = re.compile(r"(images?|imgs?|data)?(.+?)(set|split|images?|imgs?|data)?((19|20)\d\d)?")


def split_of(folder: str) -> Split | None:
    """The part that a folder's name means, in any case: Training, test_set, val2017; None for another name."""
    match = _FORM.fullmatch(re.sub(r"[-_. ]", "", folder.casefold()))
    return _WORDS.get(match[2]) if match else None


def split_in(path: str) -> Split | None:
    """The part that a word of a path means, as in data/train-00000-of-00002 and imagenet_val_017.

    The last part of the path that means one decides; None if none does, or if one part means two.
    """
    for part in reversed(path.split("/")):
        whole = split_of(part)
        words = re.split(r"[-_. ]", part.casefold())
        found: set[Split] = {whole} if whole else {_WORDS[word] for word in words if word in _WORDS}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def splits_among(paths: Iterable[str]) -> list[Split]:
    """The parts that paths mean, train first."""
    there = {split_in(path) for path in paths}
    return [split for split in dict.fromkeys(_WORDS.values()) if split in there]
