"""The manifest: everything that decides the bytes of a run; readers check it before they trust the run."""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from postmean.base.errors import ConfigError, MismatchError, ShardError
from postmean.base.json_files import JsonError, check_schema
from postmean.base.serialise import differences, from_dict, to_dict
from postmean.contract.recipe import TargetRecipe
from postmean.contract.settings import EstimatorSettings, ShardSettings
from postmean.contract.tuples import TupleSource

SCHEMA_VERSION = 5
FLAT_CHUNKS = 5
"""First version whose Zarr chunks are files of their array's folder; before, three folders held one file of images."""
READABLE = (4, SCHEMA_VERSION)
"""Versions that are read."""


def code_version() -> str:
    """Version of the installed postmean distribution."""
    return version("postmean")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Identity of a run. Runs with equal manifests on the same kind of machine have equal shards, byte for byte; the
    kind is in each shard's commit record, as a run may go on on another one."""

    schema_version: int
    code_version: str
    store_fingerprint: str
    store_shape: tuple[int, int, int, int]
    classes: int
    """Number of classes in the store, 0 without labels."""
    recipe: TargetRecipe
    seed: int
    tuples: int
    estimator: EstimatorSettings
    """`certificate`: whether the trainer makes the tuples up to their image's certified sigma."""
    shards: ShardSettings
    """In a self-contained run every tuple is a record, with z, x, sigma, label and a dense mean."""
    device: Literal["cpu", "cuda"]
    threads_per_actor: int
    queries_per_pass: int
    """Queries that share a pass over the pixels (of the largest class, if conditional); it follows from the device and
    the number of images."""
    tuple_fingerprint: str
    """Fingerprint of the random numbers: a reader whose fingerprint differs would make other tuples."""
    segments: tuple[int, ...] = ()
    """Tuple count of the run before each extension, rising; every segment begins a new shard."""

    def __post_init__(self) -> None:
        bounds = (0, *self.segments, self.tuples)
        if self.segments and any(stop <= start for start, stop in pairwise(bounds)):
            raise ConfigError(f"segments: expected rising tuple counts below {self.tuples}, got {list(self.segments)}")

    def tuple_source(self) -> TupleSource:
        """The tuples of the run."""
        return TupleSource(
            seed=self.seed,
            images=self.store_shape[0],
            flips=self.recipe.flips,
            noise=self.recipe.noise,
            process=self.recipe.process,
        )

    def check_tuples(self, where: str) -> None:
        """Raise MismatchError unless this machine makes the random numbers that the run was generated with."""
        ours = self.tuple_source().fingerprint()
        if ours != self.tuple_fingerprint:
            raise MismatchError(
                f"{where}: tuple_fingerprint {self.tuple_fingerprint}, this machine makes {ours}: "
                "install the numpy version that generated the run"
            )

    def check_store(self, fingerprint: str, where: str) -> None:
        """Raise MismatchError unless the run was made from the store with this fingerprint."""
        if fingerprint != self.store_fingerprint:
            raise MismatchError(
                f"{where}: made from the data set {self.store_fingerprint[:12]}, the store is {fingerprint[:12]}: "
                "pass the --store that the targets were generated from, or generate again into another --out"
            )

    def check_code(self, where: str) -> None:
        """Raise MismatchError unless this machine has the postmean version that began the run."""
        if code_version() != self.code_version:
            raise MismatchError(
                f"{where}: made by postmean {self.code_version}, this machine has {code_version()}: "
                "install the same on every node"
            )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the bytes of a shard. Extending a run does not change it."""
        fixed = self.to_dict() | {"tuples": 0, "segments": []}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON object."""
        return to_dict(self)

    def plan_certificate(self, certified_sigma: np.ndarray | None) -> np.ndarray | None:
        """The certificate that decides which tuples are records; None in a self-contained run, where all are."""
        return None if self.shards.self_contained else certified_sigma

    @classmethod
    def from_dict(cls, plain: Any, where: str) -> "Manifest":
        """The manifest from a JSON object.

        Raises:
            ShardError: another schema version, unknown or missing fields, values out of range.
        """
        try:
            check_schema(plain, *READABLE)
        except JsonError as error:
            raise ShardError(
                f"{where}: {error}: generate into another folder or install the version that wrote it"
            ) from error
        try:
            return from_dict(cls, plain, where)
        except (ConfigError, TypeError) as error:
            raise ShardError(str(error)) from error

    def continuing(self, other: "Manifest", where: str) -> "Manifest":
        """This manifest as a continuation of the run `other`, found at `where`: with that run's segments.

        The same tuple count resumes that run; a larger one extends it, which adds a segment.

        Raises:
            MismatchError: this manifest has fewer tuples, or differs in anything else.
        """
        extends = self.tuples > other.tuples
        segments = (*other.segments, other.tuples) if extends else other.segments
        ours = replace(self, tuples=max(self.tuples, other.tuples), segments=segments)
        ours.check_same(replace(other, tuples=ours.tuples, segments=segments), where)
        if self.tuples < other.tuples:
            raise MismatchError(
                f"{where}: tuples is {other.tuples} there, {self.tuples} here: a run is never shortened: "
                f"pass --tuples {other.tuples} or more, or another --out"
            )
        return ours

    def check_same(self, other: "Manifest", where: str) -> None:
        """Raise MismatchError naming every field in which `other`, found at `where`, differs."""
        differing = differences(self.to_dict(), other.to_dict())
        if differing:
            listed = "; ".join(f"{path} is {theirs!r} there, {ours!r} here" for path, ours, theirs in differing)
            raise MismatchError(f"{where}: belongs to another run: {listed}: pass the same settings or another --out")
