"""Did you mean: the nearest of the names that exist, for a message about one that does not."""

import difflib
from collections.abc import Iterable


def suggestion(word: str, names: Iterable[str]) -> str:
    """`: did you mean NAME?` for the name nearest to the word, or that it begins; empty if there is none."""
    names = list(names)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    near = near or [name for name in names if len(word) > 2 and name.startswith(word)]
    return f": did you mean {near[0]}?" if near else ""


def choice(word: str, names: Iterable[str]) -> str:
    """`: did you mean NAME? It is one of ...`, or without the first part if no name is near."""
    names = list(names)
    near = suggestion(word, names)
    return f"{near} It is one of {', '.join(names)}" if near else f": it is one of {', '.join(names)}"


def preset_choice(word: str, presets: Iterable[str], command: str) -> str:
    """`: did you mean NAME? COMMAND lists the presets`, or all names if none is near: there are dozens.

    Args:
        command: of `postmean`, whose presets these are.
    """
    presets = list(presets)
    listing = "postmean config --command train" if command == "train" else "postmean config"
    near = suggestion(word, presets)
    return f"{near} `{listing}` lists them all" if near else choice(word, presets)
