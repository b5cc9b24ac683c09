"""Commit records: a shard without a valid one does not exist."""

import hashlib
from dataclasses import dataclass

from postmean.base.errors import ShardError
from postmean.base.json_files import JsonError, read_json, to_json


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
            raise ShardError(f"{where}: {len(data)} bytes, committed were {self.size}")
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ShardError(f"{where}: SHA-256 differs from the committed one")


@dataclass(frozen=True, kw_only=True)
class Commit:
    """Commit record of a shard, written atomically after the shard's files. Deterministic: no times, no host names."""

    run: str
    """Fingerprint of the run's manifest."""
    shard: int
    first_tuple: int
    last_tuple: int
    records: int
    files: tuple[FileDigest, ...]
    made_on: str
    """Kind of machine: model of the GPU, or vector instructions of the CPU, and version of torch. Two kinds may differ
    in the last bit of sums."""
    statistics: dict[str, float]
    """Means over the records: ess, top_weight, variance, tail_mass, support_size; sparse_share; bytes_per_record."""

    @property
    def size(self) -> int:
        """Total bytes of the shard's files."""
        return sum(file.size for file in self.files)

    def to_bytes(self) -> bytes:
        return to_json(self)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "Commit":
        """Raises ShardError on a truncated or foreign commit record."""
        try:
            return read_json(cls, data, where)
        except JsonError as error:
            raise ShardError(f"{where}: not a commit record ({error})") from error
