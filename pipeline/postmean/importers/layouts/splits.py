"""Names of folders that hold the parts of a data set rather than classes."""

import re

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
