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
    """One line for each kind of file that is not read: lists beside folders are other kinds than files in them."""
    kinds: dict[tuple[int, str], list[str]] = {}
    for name in names:
        base = name.split("/")[-1]
        suffix = base[base.find(".") :].lower() if "." in base else ""
        kinds.setdefault((name.count("/"), suffix), []).append(name)
    ordered = sorted(kinds)
    lines = [_line(suffix, kinds[depth, suffix]) for depth, suffix in ordered[: limits.NAMES_SAID]]
    rest = [name for kind in ordered[limits.NAMES_SAID :] for name in kinds[kind]]
    return lines + ([f"{len(rest):,} files of other kinds are not read, such as {printable(rest[0])}"] if rest else [])


def _line(suffix: str, names: list[str]) -> str:
    if len(names) <= 3:
        return f"{listed(names)} {'is' if len(names) == 1 else 'are'} not read"
    kind = f"{printable(suffix)} files" if suffix else "files without a suffix"
    return f"{len(names):,} {kind} are not read, such as {printable(names[0])}"
