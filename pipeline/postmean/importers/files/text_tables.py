"""Lists in text files of a source: rows of words, or of comma-separated values."""

import re

from postmean.base.errors import DataError
from postmean.importers.files.source import Source


def read_rows(source: Source, name: str, columns: int) -> list[list[str]]:
    """The rows of a list that have a value in each of its first columns; other lines are left out.

    Words are separated by tabs or spaces, in a .csv file by commas.

    Raises:
        DataError: the file is missing, or no row has so many columns.
    """
    if name not in source.names:
        raise DataError(f"{source.path}: {name} is missing: copy or download it again")
    separator = r"\s*,\s*" if name.endswith(".csv") else r"\s+"
    lines = source.read(name).decode("utf-8", "surrogateescape").splitlines()
    rows = [re.split(separator, line.strip()) for line in lines]
    rows = [row for row in rows if len(row) >= columns and all(row[:columns])]
    if not rows:
        raise DataError(f"{source.place(name)}: no row of {columns} columns in it: copy or download it again")
    return rows
