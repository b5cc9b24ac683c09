"""Small JSON files: one way to write one, and one to read one that may be damaged, foreign or of another version."""

import json
from typing import Any, TypeVar

from postmean.base.errors import ConfigError
from postmean.base.serialise import from_dict, to_dict

T = TypeVar("T")


class JsonError(ValueError):
    """Bytes are not the JSON that they should be. The message says how; callers add what the file is and a remedy."""


def to_json(value: Any) -> bytes:
    """A dataclass or plain object as the bytes of a JSON file, indented for people."""
    return (json.dumps(to_dict(value), indent=1) + "\n").encode()


def parse_json(data: bytes) -> Any:
    """The plain object in a JSON file.

    Raises:
        JsonError: it is not JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # ValueError: of syntax, of encoding, and of a number too long
        raise JsonError(str(error)) from error


def read_json(cls: type[T], data: bytes, where: str) -> T:
    """The dataclass `cls` in a JSON file that `to_json` wrote.

    Args:
        where: names the origin in errors, such as the file's path.
    Raises:
        JsonError: it is not JSON, or not that of the dataclass.
    """
    plain = parse_json(data)
    try:
        return from_dict(cls, plain, where)
    except (ConfigError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise JsonError(str(error)) from error
