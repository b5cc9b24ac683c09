"""The header of an image store, and the fingerprint in it."""

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from postmean.base.errors import ConfigError, DataError
from postmean.base.json_files import JsonError, check_schema, parse_json, unsealed
from postmean.base.serialise import from_dict

SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """What a store holds and where it came from."""

    schema_version: int
    shape: tuple[int, int, int, int]
    """N, C, H, W"""
    class_names: tuple[str, ...] | None
    """Name of each label, None if the source has no labels."""
    source: dict[str, Any]
    """Importer, path, resize and counts of converted and skipped images."""
    fingerprint: str
    """Hash of shape, pixels and labels (see `image_store.fingerprint`): the identity of the data set."""


def parse_header(data: bytes, where: str, remedy: str) -> StoreHeader:
    """The header in the bytes of a `header.json`.

    Args:
        where: names the file in errors.
        remedy: what to do about a damaged file.
    Raises:
        DataError: it is damaged, or of another schema.
    """
    try:
        plain = parse_json(data)
        check_schema(plain, SCHEMA_VERSION)
        header = from_dict(StoreHeader, unsealed(plain), "header")
    except (JsonError, ConfigError) as error:
        raise DataError(f"{where}: {error}: {remedy}") from error
    if min(header.shape) < 1:
        raise DataError(f"{where}: shape: expected numbers above 0, got {list(header.shape)}: {remedy}")
    return header


def fingerprint_of(shape: tuple[int, ...], hashes: np.ndarray, labels: np.ndarray | None) -> str:
    """SHA-256 of shape, hashes of all blocks of images, and labels."""
    digest = hashlib.sha256(json.dumps(list(shape)).encode())
    digest.update(hashes.tobytes())
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, np.int64).data)
    return digest.hexdigest()


def array_header(shape: tuple[int, ...]) -> bytes:
    """The bytes before the pixels in `images.npy`.

    numpy pads them so that the first axis can grow in place: they are as long for no images as for all.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()
