"""JSON files of a source, which may hold anything."""

from typing import Any

from postmean.base.errors import DataError
from postmean.base.json_files import JsonError, parse_json
from postmean.base.one_line import brief
from postmean.importers import limits
from postmean.importers.files.source import Source


def read_source_json(source: Source, name: str, expected: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        expected: what it should be, in errors.
    Raises:
        DataError: it is not JSON, too large, too deep, or not an object.
    """
    data = source.read(name)
    # counted before they are built: a list of two bytes in a file takes 64 in memory
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > limits.MAX_JSON_VALUES:
        raise DataError(f"{source.place(name)}: more than {limits.MAX_JSON_VALUES:,} values: import it in parts")
    try:
        plain = parse_json(data)
    except JsonError as error:
        raise DataError(f"{source.place(name)}: expected {expected}, got no JSON ({brief(error)})") from error
    if not isinstance(plain, dict):
        raise DataError(f"{source.place(name)}: expected {expected}, got a {type(plain).__name__}")
    return plain
