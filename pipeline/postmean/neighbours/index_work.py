"""The work of `postmean index` in units, each committed before it counts: a killed job goes on where it was.

STORE/index/self-join.parts/job.json            what is made (`IndexSpec`)
STORE/index/self-join.parts/pairs-000012.npz    partial results of a unit of the self-join
STORE/index/self-join.parts/rows-000003.npz     the finished rows of a group of images
STORE/index/self-join.parts/ivf256-sq8-trained.npz   the partitions of a FAISS index, before vectors are added
STORE/index/self-join.parts/commits/NAME.json   written last, with the part's hash: a part without it does not exist

The folder is removed once the self-join is whole. A unit that is made twice, by anyone, is the same.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict

from postmean.base.errors import ConfigError, DataError, ShardError
from postmean.base.json_files import JsonError, parse_json, read_sealed_json, to_sealed_json, unsealed
from postmean.base.log import log_event
from postmean.base.serialise import from_dict, to_dict
from postmean.contract.commit import FileDigest
from postmean.contract.image_store import ImageStore
from postmean.engine.gpu_errors import gpu_errors
from postmean.engine.process_setup import threads
from postmean.neighbours.faiss_search import add_vectors, from_bytes, index_path, made_from, to_bytes, trained
from postmean.neighbours.faiss_spec import FaissSpec
from postmean.neighbours.join_maker import JoinMaker
from postmean.neighbours.self_join import SelfJoin, SelfJoinHeader
from postmean.storage.storage import Storage

JOB = "job.json"
_COMMITS = "commits"
_VERSION = 1  # of the parts


class UnitDone(TypedDict):
    """What an actor returns for a committed unit: metadata, never the part."""

    unit: int
    work: int
    """Of its stage's kind: pairs, images or vectors."""
    bytes: int


@dataclass(frozen=True, kw_only=True)
class IndexSpec:
    """What is made, from what."""

    store_fingerprint: str
    flips: bool
    conditional: bool
    nearest: int
    """K asked for, before it is capped."""
    block: int
    """Images of a block"""
    joins: bool
    """Whether the self-join is to be made."""
    faiss: str | None
    """FAISS index to be built"""


@dataclass(frozen=True)
class Unit:
    """One unit of the work."""

    name: str
    kind: str
    """pairs, rows, trained or vectors"""
    number: int
    """Of its kind"""
    work: int


@dataclass(frozen=True)
class Stage:
    """Units that may be made in any order, after those of the stages before."""

    what: str
    """For the progress line, with `counted`."""
    counted: str
    units: range


class IndexWork:
    """The units of one job, and how each is made.

    Args:
        storage: of the parts.
        device: of the self-join.
        cores: CPU threads.
    Raises:
        DataError: the store does not fit the settings, or is not the one that the job is for.
    """

    def __init__(self, spec: IndexSpec, store: ImageStore, storage: Storage, device: str, cores: int) -> None:
        if spec.store_fingerprint != store.header.fingerprint:
            raise DataError(f"{store.where}: not the images of {storage.url}/{JOB}: run the same command again")
        self._spec, self._store, self._storage, self._cores = spec, store, storage, cores
        self._maker = JoinMaker(store, spec.flips, spec.conditional, spec.nearest, spec.block, device, cores)
        self.units: list[Unit] = []
        self.stages: list[Stage] = []
        if spec.joins:
            plan = self._maker.plan
            self._add_stage("self-join", "pairs", "pairs", [plan.pairs(unit) for unit in range(len(plan.units))])
            self._add_stage("merge", "rows", "images", [plan.images(group) for group in range(len(plan.groups))])
        if self._faiss is not None:
            entries = len(store) * (2 if spec.flips else 1)
            if self._faiss.lists:
                self._add_stage(f"train {spec.faiss}", "trained", "vectors", [self._faiss.sample(entries)])
            self._add_stage(f"index {spec.faiss}", "vectors", "vectors", [entries])

    def load(self) -> None:
        """Load the images: all are checked once, and copied to a GPU."""
        self._store.check()
        if self._spec.joins:
            with gpu_errors():
                self._maker.load()

    @property
    def joins(self) -> bool:
        """Whether the self-join is made."""
        return self._spec.joins

    @property
    def is_short(self) -> bool:
        """Whether the images are so few that all parts are made in seconds to a minute."""
        return len(self._maker.plan.units) == 1

    def is_pairs(self, unit: int) -> bool:
        """Whether the unit's work is counted in pairs of images."""
        return self.units[unit].kind == "pairs"

    def stage_of(self, unit: int) -> int:
        """Number of the unit's stage."""
        return next(number for number, stage in enumerate(self.stages) if unit in stage.units)

    def committed(self) -> dict[int, int]:
        """Bytes by unit, of those with a valid commit record; a part is compared with that when it is read."""
        valid = {number: self._commit(unit) for number, unit in enumerate(self.units) if self._is_there(unit)}
        return {number: commit.size for number, commit in valid.items() if commit is not None}

    def make(self, unit: int, progress: Callable[[int], None] = lambda done: None) -> UnitDone:
        """Make a unit and commit it.

        Args:
            progress: called with the work done so far.
        """
        part = self._make(self.units[unit], progress)
        return UnitDone(unit=unit, work=self.units[unit].work, bytes=len(part))

    def self_join(self) -> SelfJoin:
        """The whole self-join, from the groups of rows."""
        spec = self._spec
        rows = [unit for unit in self.units if unit.kind == "rows"]
        header = SelfJoinHeader(
            store_fingerprint=spec.store_fingerprint,
            flips=spec.flips,
            conditional=spec.conditional,
            nearest=self._maker.nearest,
        )
        return SelfJoin(header, *self._maker.joined(lambda group: self._part(rows[group])))

    def _is_there(self, unit: Unit) -> bool:
        """Whether what the unit writes beside the store, if it does, has not been removed."""
        if unit.kind != "vectors":
            return True
        assert self._faiss is not None
        return index_path(self._store, self._faiss, self._spec.flips).is_file()

    def _add_stage(self, what: str, kind: str, counted: str, work: list[int]) -> None:
        first = len(self.units)
        is_join = kind in ("pairs", "rows")
        for number, amount in enumerate(work):
            name = f"{kind}-{number:06d}" if is_join else f"{self._spec.faiss}-{kind}"
            self.units.append(Unit(name, kind, number, amount))
        self.stages.append(Stage(what, counted, range(first, len(self.units))))

    @cached_property
    def _faiss(self) -> FaissSpec | None:
        return None if self._spec.faiss is None else FaissSpec(self._spec.faiss)

    def _make(self, unit: Unit, progress: Callable[[int], None] = lambda done: None) -> bytes:
        if unit.kind == "pairs":
            with gpu_errors():
                part = self._maker.unit(unit.number, progress)
        elif unit.kind == "rows":
            pairs = [each for each in self.units if each.kind == "pairs"]
            part = self._maker.group(unit.number, lambda number: self._part(pairs[number]))
        else:
            part = self._make_faiss(unit, progress)
        digest = FileDigest.of(f"{unit.name}.npz", part)
        self._storage.put(digest.path, part)
        self._storage.put(_commit_path(unit), to_sealed_json({"of": self._made_from(unit), "file": to_dict(digest)}))
        return part

    def _make_faiss(self, unit: Unit, progress: Callable[[int], None]) -> bytes:
        spec, flips = self._faiss, self._spec.flips
        assert spec is not None
        with threads(self._cores):
            if unit.kind == "trained":
                return to_bytes(trained(self._store, spec, flips))
            before = next((each for each in self.units if each.kind == "trained"), None)
            index = trained(self._store, spec, flips) if before is None else from_bytes(self._part(before))
            add_vectors(index, self._store, spec, flips, progress)
        return b""  # it is written beside the store

    def _part(self, unit: Unit) -> bytes:
        """The part of a unit; it is made again if it is missing or damaged."""
        commit = self._commit(unit)
        if commit is not None:
            try:
                data = self._storage.get(commit.path)
                commit.check(data, f"{self._storage.url}/{commit.path}")
                return data
            except ShardError as error:
                log_event("index part damaged", part=unit.name, cause=str(error))
        return self._make(unit)

    def _commit(self, unit: Unit) -> FileDigest | None:
        with suppress(ShardError, JsonError, ConfigError, KeyError):
            record = unsealed(parse_json(self._storage.get(_commit_path(unit))))
            if record["of"] == self._made_from(unit):
                return from_dict(FileDigest, record["file"], "file")
        return None

    def _made_from(self, unit: Unit) -> dict[str, Any]:
        if unit.kind in ("pairs", "rows"):
            spec = self._spec
            join = {"store_fingerprint": spec.store_fingerprint, "flips": spec.flips, "conditional": spec.conditional}
            return {"version": _VERSION, "part": unit.name, **join, "nearest": self._maker.nearest, "block": spec.block}
        assert self._faiss is not None
        return {"version": _VERSION, "part": unit.name, **made_from(self._store, self._faiss, self._spec.flips)}


def write_spec(storage: Storage, spec: IndexSpec) -> None:
    """Say in the folder what is made there."""
    storage.put(JOB, to_sealed_json(spec))


def read_spec(storage: Storage) -> IndexSpec:
    """What is made in a folder of parts; ShardError if it does not say."""
    try:
        return read_sealed_json(IndexSpec, storage.get(JOB), JOB)
    except JsonError as error:
        raise ShardError(f"{storage.url}/{JOB}: damaged ({error}): run `postmean index` again") from error


def _commit_path(unit: Unit) -> str:
    return f"{_COMMITS}/{unit.name}.json"
