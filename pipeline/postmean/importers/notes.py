"""Lines that say what a source holds and the store does not keep."""

from collections.abc import Iterable, Sequence

from postmean.base.one_line import printable
from postmean.importers import limits


def listed(names: Sequence[str]) -> str:
    """Names in one line, the first of them if they are many."""
    said = ", ".join(printable(name) for name in names[: limits.NAMES_SAID])
    more = len(names) - limits.NAMES_SAID
    return said if more <= 0 else f"{said} and {more:,} more"


def images(count: int) -> str:
    """`1 image` or `N images`."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def unread_files(names: Iterable[str]) -> list[str]:
    """One line for each kind of file that is not read."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        base = name.split("/")[-1]
        kinds.setdefault(base[base.find(".") :].lower() if "." in base else "", []).append(name)
    common = sorted(kinds, key=lambda kind: (-len(kinds[kind]), kind))
    lines = [_line(kind, kinds[kind]) for kind in common[: limits.NAMES_SAID]]
    rest = [name for kind in common[limits.NAMES_SAID :] for name in kinds[kind]]
    return lines + ([f"{len(rest):,} files of other kinds are not read, such as {printable(rest[0])}"] if rest else [])


def _line(kind: str, names: list[str]) -> str:
    if len(names) == 1:
        return f"{printable(names[0])} is not read"
    kind = printable(kind) if kind else "files without a suffix"
    return (
        f"{len(names):,} {kind}{' files' if kind.startswith('.') else ''} are not read, such as {printable(names[0])}"
    )
