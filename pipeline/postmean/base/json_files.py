"""Write small JSON files, and read ones that may be damaged, foreign or of another version."""

import json
from typing import Any, TypeVar

from postmean.base.errors import ConfigError
from postmean.base.serialise import from_dict, to_dict

T = TypeVar("T")


class JsonError(ValueError):
    """The bytes are not the expected JSON. The message says why; callers add which file it is and a remedy."""


def to_json(value: Any) -> bytes:
    """The bytes of a JSON file with a dataclass or plain object, indented for people."""
    return (json.dumps(to_dict(value), indent=1) + "\n").encode()


def parse_json(data: bytes) -> Any:
    """The plain object in a JSON file.

    Raises:
        JsonError: the bytes are not JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # ValueError: bad syntax, bad encoding, or too long a number
        raise JsonError(str(error)) from error


def check_schema(plain: Any, version: int) -> None:
    """Check the `schema_version` of a plain object.

    Raises:
        JsonError: it is another one, or there is none.
    """
    got = plain.get("schema_version") if isinstance(plain, dict) else None
    if got != version:
        raise JsonError(f"schema_version {got}, this postmean reads {version}")


def read_json(cls: type[T], data: bytes, where: str) -> T:
    """The dataclass `cls` in a JSON file that `to_json` wrote.

    Args:
        where: names the origin in errors, such as the file's path.
    Raises:
        JsonError: the bytes are not JSON, or their fields are not the dataclass's.
    """
    plain = parse_json(data)
    try:
        return from_dict(cls, plain, where)
    except (ConfigError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise JsonError(str(error)) from error
