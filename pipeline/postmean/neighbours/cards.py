"""Cards of computed files, as in STORE/index: X.json beside X says what X was made from, and its hash.

It is written after X. A file whose card is missing or tells another hash is damaged, or was being replaced.
"""

from pathlib import Path
from typing import Any

from postmean.base.errors import DataError
from postmean.base.files import file_sha256, write_file
from postmean.base.json_files import JsonError, parse_json, to_sealed_json, unsealed


def write_card(path: Path, made_from: dict[str, Any]) -> None:
    """Write the card of a file that is complete.

    Args:
        made_from: what it was made from, a plain object without the field `file_sha256`.
    """
    write_file(_card(path), to_sealed_json(made_from | {"file_sha256": file_sha256(path)}))


def read_card(path: Path, remedy: str) -> dict[str, Any]:
    """What a file was made from, once its hash is found right: a second per GB.

    Args:
        remedy: what to do if it is not.
    Raises:
        DataError: the file or its card is damaged or missing, or was written by postmean 0.1.
    """
    card = _card(path)
    if not card.is_file():
        raise DataError(f"{card}: missing, it holds the hash of {path.name}: {remedy}")
    try:
        made_from = unsealed(parse_json(card.read_bytes()))
        expected = made_from.pop("file_sha256")
        found = file_sha256(path)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}: make it readable") from error
    except (JsonError, KeyError) as error:
        raise DataError(f"{card}: damaged or of another version ({error}): {remedy}") from error
    if found != expected:
        raise DataError(f"{path}: damaged: its SHA-256 is not the one in {card.name}: {remedy}")
    return made_from


def _card(path: Path) -> Path:
    return path.with_suffix(".json")
