"""Write small JSON files, and read ones that may be damaged, foreign or of another version.

A sealed file has one field more, `sha256`: the hash of all others. A damaged digit is then found, and not taken.
"""

import hashlib
import json
from typing import Any, TypeVar

from postmean.base.errors import ConfigError
from postmean.base.serialise import from_dict, to_dict

T = TypeVar("T")

_SEAL = "sha256"


class JsonError(ValueError):
    """The bytes are not the expected JSON. The message says why; callers add which file it is and a remedy."""


def to_json(value: Any) -> bytes:
    """The bytes of a JSON file with a dataclass or plain object, indented for people."""
    return (json.dumps(to_dict(value), indent=1) + "\n").encode()


def to_sealed_json(value: Any) -> bytes:
    """Like `to_json`, for an object without the field `sha256`; sealed."""
    plain = to_dict(value)
    return to_json(plain | {_SEAL: _hash(plain)})


def parse_json(data: bytes) -> Any:
    """The plain object in a JSON file.

    Raises:
        JsonError: the bytes are not JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # ValueError: bad syntax, bad encoding, or too long a number
        raise JsonError(str(error)) from error


def unsealed(plain: Any) -> dict[str, Any]:
    """The plain object in a sealed file, without its seal.

    Raises:
        JsonError: it is not what was written.
    """
    if not isinstance(plain, dict) or _SEAL not in plain:
        raise JsonError(f"no field {_SEAL}, the hash of all others")
    fields = {name: value for name, value in plain.items() if name != _SEAL}
    try:
        is_whole = plain[_SEAL] == _hash(fields)
    except RecursionError as error:
        raise JsonError(str(error)) from error
    if not is_whole:
        raise JsonError(f"damaged or edited: its {_SEAL} is not that of its other fields")
    return fields


def check_schema(plain: Any, *versions: int) -> None:
    """Check that the `schema_version` of a plain object is one of these.

    Raises:
        JsonError: it is another one, or there is none.
    """
    got = plain.get("schema_version") if isinstance(plain, dict) else None
    if got not in versions:
        raise JsonError(f"schema_version {got}, this postmean reads {' and '.join(map(str, versions))}")


def read_json(cls: type[T], data: bytes, where: str) -> T:
    """The dataclass `cls` in a JSON file that `to_json` wrote.

    Args:
        where: names the origin in errors, such as the file's path.
    Raises:
        JsonError: the bytes are not JSON, or their fields are not the dataclass's.
    """
    return _from_plain(cls, parse_json(data), where)


def read_sealed_json(cls: type[T], data: bytes, where: str) -> T:
    """Like `read_json`, of a file that `to_sealed_json` wrote; JsonError also if it is not what was written."""
    return _from_plain(cls, unsealed(parse_json(data)), where)


def _from_plain(cls: type[T], plain: Any, where: str) -> T:
    try:
        return from_dict(cls, plain, where)
    except (ConfigError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise JsonError(str(error)) from error


def _hash(plain: Any) -> str:
    """SHA-256 of a plain object; neither the order of fields nor white space matters."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
