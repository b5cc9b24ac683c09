"""Globs and brace lists: `data/train-*.parquet`, `shards/{000..127}.tar`."""

import re
from collections.abc import Callable
from itertools import islice

from postmean.base.errors import ConfigError, DataError
from postmean.base.extras import needs
from postmean.importers import limits

_GLOB = re.compile(r"[*?]|\[[^\]]+\]")


def is_pattern(text: str) -> bool:
    """Whether a path or URL is to be taken as a glob or brace list."""
    return bool(_GLOB.search(text)) or ("{" in text and "}" in text)


def matches(pattern: str, glob: Callable[[str], list[str]], exists: Callable[[str], bool]) -> list[str]:
    """The paths that a pattern stands for, sorted, each once.

    Args:
        glob: finds the paths of a glob.
        exists: whether there is something at a path.
    Raises:
        ConfigError: its braces are not balanced, or stand for too many paths.
        DataError: a glob finds nothing, or a listed path is not there.
    """
    with needs("generate"):
        import braceexpand
    try:
        listed = list(islice(braceexpand.braceexpand(pattern), limits.MAX_FILES))
    except ValueError as error:
        raise ConfigError(f"{pattern}: {error}: correct its braces") from error
    found: set[str] = set()
    for path in listed:
        if not _GLOB.search(path):
            if not exists(path):
                raise DataError(f"{path}: no such file or folder: check the path")
            found.add(path)
        elif some := glob(path):
            found.update(some)
        else:
            raise DataError(f"{path}: no file matches: check the path, and quote it so that the shell leaves it whole")
    return sorted(found)
