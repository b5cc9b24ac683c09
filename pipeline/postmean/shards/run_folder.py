"""The run folder: manifest, plan, certificate, shards and commit records of one run, in any storage.

OUT/manifest.json            identity of the run
OUT/plan.parquet             which tuples are in which shard
OUT/certified_sigma.npy      float32 [N], only with the certificate
OUT/shards/000042.tar        or targets.zarr/: the shards
OUT/commits/000042.json      written last: a shard without it does not exist
"""

import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from postmean.base.errors import ConfigError, ShardError
from postmean.base.progress import Progress
from postmean.contract.commit import Commit, FileDigest
from postmean.contract.manifest import Manifest
from postmean.contract.plan import Plan, ShardPlan
from postmean.contract.records import QUALITY_COLUMNS, Records
from postmean.shards.codec import Layout, ShardCodec
from postmean.shards.codecs import codec
from postmean.shards.npy import from_npy, to_npy
from postmean.storage.storage import Reader, Storage

MANIFEST = "manifest.json"
PLAN = "plan.parquet"
CERTIFIED_SIGMA = "certified_sigma.npy"
COMMITS = "commits"
_RECORDS_A_PART = 16
_READERS = 64  # commit records read at once: object stores answer slowly, but many at a time


def layout_of(manifest: Manifest, plan: Plan) -> Layout:
    """What the codec must know of the run; ShardError where the manifest's numbers make no sense."""
    ends = [plan.until(tuples).total_records for tuples in manifest.segments]
    try:
        return Layout(
            image_shape=(manifest.store_shape[1], manifest.store_shape[2], manifest.store_shape[3]),
            records_per_shard=manifest.shards.records_per_shard,
            total_records=plan.until(manifest.tuples).total_records,
            max_support=manifest.shards.max_support,
            has_next=manifest.recipe.solver == "heun",
            self_contained=manifest.shards.self_contained,
            labels=manifest.classes > 0,
            has_sigma_next=manifest.recipe.noise.has_teacher,
            earlier_segments=tuple(np.diff([0, *ends]).tolist()),
        )
    except (ConfigError, TypeError, IndexError) as error:
        raise ShardError(f"{MANIFEST}: {error}: it was edited, generate again") from error


class RunFolder:
    """Reads and writes a run. Manifest and plan are read once and kept: open it again to see an extension."""

    def __init__(self, storage: Storage | Reader) -> None:
        self.storage: Storage = storage  # type: ignore[assignment]  # of a live run a Reader, and only read
        self._manifest: Manifest | None = None
        self._plan: Plan | None = None
        self._committed: dict[int, int] = {}  # bytes by shard

    def has_manifest(self) -> bool:
        """Whether a run was begun here."""
        return self.storage.exists(MANIFEST)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest and, once the plan is there too, the metadata that the format needs."""
        if self.storage.exists(PLAN):
            self._write_run_files(manifest, self.read_plan())
        self.storage.put(MANIFEST, (json.dumps(manifest.to_dict(), indent=1) + "\n").encode())
        self._manifest = manifest

    def read_manifest(self) -> Manifest:
        """The manifest; ShardError where there is none or it is damaged."""
        if self._manifest is None:
            where = self._where(MANIFEST)
            if not self.has_manifest():
                raise ShardError(f"{where}: no run there: make one with `postmean generate`")
            try:
                plain = json.loads(self.storage.get(MANIFEST))
            except (ValueError, RecursionError) as error:
                raise ShardError(f"{where}: not JSON ({error}): generate again into another folder") from error
            self._manifest = Manifest.from_dict(plain, where)
        return self._manifest

    def write_plan(self, plan: Plan) -> None:
        """Write the plan and, once the manifest is there too, the metadata that the format needs."""
        if self.has_manifest():
            self._write_run_files(self.read_manifest(), plan)
        self.storage.put(PLAN, plan.to_bytes())
        self._plan = plan

    def read_plan(self) -> Plan:
        """The plan; ShardError where there is none or it is damaged.

        Shards beyond the manifest's tuples do not exist: they are of an extension that was not completed.
        """
        if self._plan is None:
            # the manifest first: a plan is written before the manifest that it belongs to
            tuples = self.read_manifest().tuples if self.has_manifest() else None
            plan = Plan.from_bytes(self.storage.get(PLAN), self._where(PLAN))
            self._plan = plan if tuples is None else plan.until(tuples)
        return self._plan

    def write_certified_sigma(self, certified_sigma: np.ndarray | None) -> None:
        """Write the certificate, float32 [N], or remove what was there (None)."""
        if certified_sigma is None:
            self.storage.delete(CERTIFIED_SIGMA)
        else:
            self.storage.put(CERTIFIED_SIGMA, to_npy(np.asarray(certified_sigma, np.float32)))

    def read_certified_sigma(self) -> np.ndarray | None:
        """The certificate of each image, float32 [N]; None in a run without it."""
        manifest = self.read_manifest()
        if not manifest.estimator.certificate:
            return None
        where = self._where(CERTIFIED_SIGMA)
        found = from_npy(self.storage.get(CERTIFIED_SIGMA), where)
        if found.dtype != np.float32 or found.shape != (manifest.store_shape[0],):
            raise ShardError(f"{where}: {found.dtype} {found.shape}, expected float32 ({manifest.store_shape[0]},)")
        return found

    def layout(self) -> Layout:
        """`layout_of` this run."""
        return layout_of(self.read_manifest(), self.read_plan())

    def commit_shard(self, row: ShardPlan, records: Records) -> Commit:
        """Encode and write the files of a shard, then its commit record. Doing it twice is harmless."""
        files = self._codec().encode(records, row, self.layout())
        for path, data in files.items():
            self.storage.put(path, data)
        size = sum(map(len, files.values()))
        statistics = {name: float(np.mean(getattr(records, name), dtype=np.float64)) for name in QUALITY_COLUMNS}
        statistics["sparse_share"] = float(np.mean(records.mean.count >= 0))
        statistics["bytes_per_record"] = size / len(records)
        commit = Commit(
            run=self.read_manifest().fingerprint,
            shard=row.shard,
            first_tuple=row.first_tuple,
            last_tuple=row.last_tuple,
            records=row.records,
            files=tuple(FileDigest.of(path, data) for path, data in files.items()),
            statistics=statistics,
        )
        self.storage.put(_commit_path(row.shard), commit.to_bytes())
        return commit

    def listed(self) -> set[int]:
        """Shards that have a commit record, whatever is in it: one listing, no reading."""
        return set(_shards(self.storage.list(COMMITS), len(self.read_plan())))

    def is_committed(self, shard: int) -> bool:
        """Whether the shard has a commit record, whatever is in it."""
        return self.storage.exists(_commit_path(shard))

    def committed_bytes(self) -> int:
        """Bytes of the shards that `committed` last found."""
        return sum(self._committed.values())

    def committed(self) -> set[int]:
        """Shards whose commit record is there, whole and of this plan. Records seen before are not read again.

        A progress line tells of what takes minutes: a million records on an object store.
        """
        listed = self.listed()
        self._committed = {shard: size for shard, size in self._committed.items() if shard in listed}
        new = sorted(listed - self._committed.keys())
        parts = [new[start : start + _RECORDS_A_PART] for start in range(0, len(new), _RECORDS_A_PART)]
        with (
            Progress("read", len(new), "commit records") as progress,
            ThreadPoolExecutor(min(_READERS, max(1, len(parts)))) as pool,
        ):
            for read, valid in enumerate(pool.map(self._valid, parts), start=1):
                self._committed.update(valid)
                progress.update(min(read * _RECORDS_A_PART, len(new)))
        return set(self._committed)

    def read_commit(self, shard: int) -> Commit:
        """The commit record; ShardError where it is missing, damaged, or of another run or plan.

        A folder, or a live server, may have been begun anew with other settings since the manifest was read.
        """
        path = _commit_path(shard)
        row = self._row(shard)
        try:
            commit = Commit.from_bytes(self.storage.get(path), self._where(path))
        except RecursionError as error:
            raise ShardError(f"{self._where(path)}: not a commit record: remove it and generate again") from error
        run = self.read_manifest().fingerprint
        if commit.run != run:
            raise ShardError(
                f"{self._where(path)}: made by a run of other settings ({commit.run[:12]}) than the manifest says "
                f"({run[:12]}): start `postmean serve` as before, or remove the record and generate again"
            )
        if ShardPlan(commit.shard, commit.first_tuple, commit.last_tuple, commit.records) != row:
            raise ShardError(f"{self._where(path)}: not of this plan's shard {row}: remove it and generate again")
        return commit

    def read_shard(self, shard: int, check_hash: bool = True) -> Records:
        """The records of a committed shard.

        Args:
            check_hash: compare size and SHA-256 of its files with the commit record before decoding.
        Raises:
            ShardError: not committed, or damaged.
        """
        row, layout = self._row(shard), self.layout()
        commit, paths = self.read_commit(shard), self.shard_paths(shard)
        if [file.path for file in commit.files] != paths:
            raise ShardError(f"{self._where(_commit_path(shard))}: its files are not this shard's: generate it again")
        files = {path: self.storage.get(path) for path in paths}
        if check_hash:
            for file in commit.files:
                file.check(files[file.path], self._where(file.path))
        return self._codec().decode(row, layout, files.__getitem__)

    def shard_paths(self, shard: int) -> list[str]:
        """Files that this shard consists of."""
        return self._codec().paths(self._row(shard), self.layout())

    def uncommit(self, shard: int) -> None:
        """Remove the commit record, so that the shard is generated again."""
        self.storage.delete(_commit_path(shard))
        self._committed.pop(shard, None)

    def _codec(self) -> ShardCodec:
        return codec(self.read_manifest().shards.format)

    def _row(self, shard: int) -> ShardPlan:
        plan = self.read_plan()
        if not 0 <= shard < len(plan):
            raise ShardError(f"{self.storage.url}: shard {shard}, the plan has 0..{len(plan) - 1}")
        return plan[shard]

    def _valid(self, shards: list[int]) -> dict[int, int]:
        valid = {}
        for shard in shards:
            with suppress(ShardError):
                valid[shard] = self.read_commit(shard).size
        return valid

    def _where(self, path: str) -> str:
        return f"{self.storage.url}/{path}"

    def _write_run_files(self, manifest: Manifest, plan: Plan) -> None:
        for path, data in codec(manifest.shards.format).run_files(layout_of(manifest, plan)).items():
            self.storage.put(path, data)


def _commit_path(shard: int) -> str:
    return f"{COMMITS}/{shard:06d}.json"


def _shards(paths: Iterable[str], shards: int) -> Iterable[int]:
    """Numbers of the shards whose commit records these are."""
    for path in paths:
        name = re.fullmatch(rf"{COMMITS}/(\d{{6,18}})\.json", path)
        if name and int(name[1]) < shards and _commit_path(int(name[1])) == path:
            yield int(name[1])
