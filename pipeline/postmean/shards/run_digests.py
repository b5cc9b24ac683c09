"""Hashes of the files that a manifest belongs to. They stand in manifest.json, which is sealed, under `files`.

A commit record holds the hashes of its shard. So every file of a run is compared with what was written as it is read.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from postmean.base.json_files import JsonError, check_schema, to_sealed_json, unsealed
from postmean.base.serialise import from_dict, to_dict
from postmean.contract.manifest import READABLE, Manifest
from postmean.contract.plan import Plan
from postmean.shards.npy import to_npy

_FIELD = "files"


@dataclass(frozen=True, kw_only=True)
class RunDigests:
    """SHA-256 of what belongs to a manifest."""

    plan: str
    """Of the plan's rows up to the manifest's tuples: while a run is extended, its plan already has more."""
    certified_sigma: str | None
    """Of certified_sigma.npy; None in a run without the certificate."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Of the files of the format that belong to no shard, by path."""

    @classmethod
    def of(cls, plan: Plan, certified_sigma: np.ndarray | None, metadata: dict[str, bytes]) -> "RunDigests":
        """The hashes of these.

        Args:
            plan: ends at the manifest's tuples.
        """
        return cls(
            plan=plan.sha256(),
            certified_sigma=None if certified_sigma is None else sha256_of(certificate_bytes(certified_sigma)),
            metadata={path: sha256_of(data) for path, data in metadata.items()},
        )


def certificate_bytes(certified_sigma: np.ndarray) -> bytes:
    """The file certified_sigma.npy of these certified sigmas, float [N]."""
    return to_npy(np.asarray(certified_sigma, np.float32))


def sha256_of(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def manifest_bytes(manifest: Manifest, digests: RunDigests) -> bytes:
    """The file manifest.json."""
    return to_sealed_json(manifest.to_dict() | {_FIELD: to_dict(digests)})


def read_manifest_bytes(plain: Any, where: str) -> tuple[Manifest, RunDigests]:
    """Manifest and hashes in the plain object of a manifest.json.

    Raises:
        JsonError: another schema version, or not what was written.
        ConfigError, ShardError: unknown or missing fields, values out of range.
    """
    check_schema(plain, *READABLE)
    fields = unsealed(plain)
    if _FIELD not in fields:
        raise JsonError(f"no field {_FIELD}")
    digests = from_dict(RunDigests, fields.pop(_FIELD), f"{where}: {_FIELD}")
    return Manifest.from_dict(fields, where), digests
