"""Commit records: a shard without a valid one does not exist."""

import hashlib
import json
from dataclasses import dataclass

from postmean.base.errors import ConfigError, ShardError
from postmean.base.serialise import from_dict, to_dict


@dataclass(frozen=True, kw_only=True)
class FileDigest:
    """Size and hash of one file of a shard; `path` is relative to the run's output."""

    path: str
    size: int
    """bytes"""
    sha256: str

    @classmethod
    def of(cls, path: str, data: bytes) -> "FileDigest":
        return cls(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())

    def check(self, data: bytes, where: str) -> None:
        """Raise ShardError unless `data` is what was committed."""
        if len(data) != self.size:
            raise ShardError(
                f"{where}: {len(data)} bytes, committed were {self.size}: remove its commit and generate again"
            )
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ShardError(f"{where}: SHA-256 differs from the committed one: remove its commit and generate again")


@dataclass(frozen=True, kw_only=True)
class Commit:
    """Written after the files of a shard, in one atomic step. Deterministic: no times, no host names."""

    run: str
    """Fingerprint of the run's manifest."""
    shard: int
    first_tuple: int
    last_tuple: int
    records: int
    files: tuple[FileDigest, ...]
    statistics: dict[str, float]
    """Means over the records: ess, top_weight, variance, tail_mass, support_size; sparse_share; bytes_per_record."""

    @property
    def size(self) -> int:
        """Bytes of the shard's files."""
        return sum(file.size for file in self.files)

    def to_bytes(self) -> bytes:
        return (json.dumps(to_dict(self), indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "Commit":
        """Raises ShardError on a truncated or foreign commit record."""
        try:
            return from_dict(cls, json.loads(data), where)
        except (ValueError, ConfigError) as error:
            raise ShardError(f"{where}: not a commit record ({error}): remove it and generate again") from error
