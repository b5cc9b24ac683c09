"""tyro's complaints about flags as errors of one line; tyro prints each as a box with help in it."""

import contextlib
import io
import itertools
import re
from collections.abc import Iterator

from postmean.base.errors import ConfigError
from postmean.base.suggest import choice

_SIDES, _RULE = "│", "╰╯ ─-"
"""What a box and its rules are drawn with."""


@contextlib.contextmanager
def one_line_errors(command: str) -> Iterator[None]:
    """Raise what tyro prints inside the block as a ConfigError of one line.

    Args:
        command: the words whose --help describes the flags.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except SystemExit as end:
        if not end.code:
            raise
        raise ConfigError(f"{_message(printed.getvalue())}: see `{command} --help`") from None


def _message(box: str) -> str:
    """The text of a box without its title and what follows it; of a list of missing flags, their names alone."""
    lines = [line.strip(_SIDES) for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()]
    # in UTF-8 the title stands in the frame, in ASCII a rule follows it
    start = 1 if lines and lines[0].startswith("╭") else 2
    rows = list(itertools.takewhile(lambda row: row.strip(_RULE), lines[start:]))
    if rows and rows[0].strip().startswith("Missing from"):
        return f"missing {', '.join(row.strip() for row in rows if re.match(r' {5,6}[^ ]', row))}"
    return _plain(" ".join(" ".join(rows).split()).rstrip(". "))


def _plain(message: str) -> str:
    """What is wrong with a value, in words that need no Python."""
    if found := re.fullmatch(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)", message):
        value, name, values = found.groups()
        names = re.findall(r"'([^']*)'", values)
        return f"{_flag(name)}: no {value!r}{choice(value, names)}"
    number = r"(invalid literal for int|could not convert string to float).*?: (.*)"
    if found := re.fullmatch(rf"Error parsing (\S+): {number}", message):
        name, kind, value = found.groups()
        return f"{_flag(name)}: expected a {'whole ' * ('int' in kind)}number, got {value}"
    return message


def _flag(name: str) -> str:
    """A flag as it is, or the name of a positional argument as the help has it."""
    return name if name.startswith("-") else name.rsplit(".", 1)[-1].upper()
