"""The run folder: manifest, plan, certificate, shards and commit records of one run, in any storage.

OUT/manifest.json            identity of the run
OUT/plan.parquet             which tuples are in which shard
OUT/certified_sigma.npy      float32 [N], only with the certificate
OUT/shards/000042.tar        the shards; OUT/targets.zarr/ in Zarr format
OUT/commits/000042.json      written last: a shard without it does not exist
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from postmean.base.errors import ConfigError, ShardError
from postmean.base.json_files import JsonError, parse_json, to_json
from postmean.contract.commit import Commit, FileDigest
from postmean.contract.manifest import Manifest
from postmean.contract.plan import Plan, ShardPlan
from postmean.contract.records import QUALITY_COLUMNS, Records
from postmean.shards.codec import Layout, ShardCodec
from postmean.shards.codecs import codec
from postmean.shards.npy import from_npy, to_npy
from postmean.shards.run_paths import CERTIFIED_SIGMA, COMMITS, MANIFEST, PLAN, commit_path, shard_of_commit
from postmean.storage.storage import Reader, Storage

_RECORDS_A_PART = 16
_READERS = 64  # threads that read commit records: object stores answer slowly, but many requests at a time


def layout_of(manifest: Manifest, plan: Plan) -> Layout:
    """What the codec must know about the run; ShardError if the manifest's numbers make no sense."""
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
    """Reads and writes a run. Manifest and plan are read once and cached: open the run again to see an extension."""

    def __init__(self, storage: Storage | Reader) -> None:
        self.storage: Storage = storage  # type: ignore[assignment]  # a live run's is a Reader, and only read
        self._manifest: Manifest | None = None
        self._plan: Plan | None = None
        self._committed: dict[int, int] = {}  # bytes by shard

    def has_manifest(self) -> bool:
        """Whether a run has begun here."""
        return self.storage.exists(MANIFEST)

    def begin(self, manifest: Manifest, plan: Plan, certified_sigma: np.ndarray | None) -> None:
        """Begin a run or extend it: write certificate, plan, the format's metadata and, last, the manifest.

        If this is killed, the run has begun, or was extended, either completely or not at all: a run without a
        manifest has not begun, and shards of the plan beyond the manifest's tuples do not count.

        Args:
            certified_sigma: float32 [N]; None in a run without the certificate, which removes any existing file.
        """
        if certified_sigma is None:
            self.storage.delete(CERTIFIED_SIGMA)
        else:
            self.storage.put(CERTIFIED_SIGMA, to_npy(np.asarray(certified_sigma, np.float32)))
        self.storage.put(PLAN, plan.to_bytes())
        for path, data in codec(manifest.shards.format).run_files(layout_of(manifest, plan)).items():
            self.storage.put(path, data)
        self.storage.put(MANIFEST, to_json(manifest))
        self._manifest, self._plan = manifest, plan

    def read_manifest(self) -> Manifest:
        """The manifest; ShardError if it is missing or damaged."""
        if self._manifest is None:
            where = self._where(MANIFEST)
            if not self.has_manifest():
                raise ShardError(f"{where}: no run there: make one with `postmean generate`")
            try:
                plain = parse_json(self.storage.get(MANIFEST))
            except JsonError as error:
                raise ShardError(f"{where}: not JSON ({error}): generate again into another folder") from error
            self._manifest = Manifest.from_dict(plain, where)
        return self._manifest

    def read_plan(self) -> Plan:
        """The plan; ShardError if it is missing or damaged.

        Shards beyond the manifest's tuples are left out: they belong to an extension that was not completed.
        """
        if self._plan is None:
            # read the manifest first: a plan is written before its manifest
            tuples = self.read_manifest().tuples if self.has_manifest() else None
            plan = Plan.from_bytes(self.storage.get(PLAN), self._where(PLAN))
            self._plan = plan if tuples is None else plan.until(tuples)
        return self._plan

    def read_certified_sigma(self) -> np.ndarray | None:
        """The certified sigma of each image, float32 [N]; None in a run without the certificate.

        Raises:
            ShardError: missing, damaged or of another shape.
        """
        manifest = self.read_manifest()
        if not manifest.estimator.certificate:
            return None
        where = self._where(CERTIFIED_SIGMA)
        certified = from_npy(self.storage.get(CERTIFIED_SIGMA), where)
        if certified.dtype != np.float32 or certified.shape != (manifest.store_shape[0],):
            got = f"{certified.dtype} {certified.shape}"
            raise ShardError(f"{where}: {got}, expected float32 ({manifest.store_shape[0]},)")
        return certified

    def layout(self) -> Layout:
        """`layout_of` this run."""
        return layout_of(self.read_manifest(), self.read_plan())

    def commit_shard(self, row: ShardPlan, records: Records) -> Commit:
        """Encode and write the files of a shard, then its commit record. Committing twice is harmless."""
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
        self.storage.put(commit_path(row.shard), commit.to_bytes())
        return commit

    def listed(self) -> set[int]:
        """Shards of the plan that have a commit record, valid or not: one listing, nothing is read."""
        shards = {shard_of_commit(path) for path in self.storage.list(COMMITS)}
        return {shard for shard in shards if shard is not None and shard < len(self.read_plan())}

    def is_committed(self, shard: int) -> bool:
        """Whether the shard has a commit record, valid or not."""
        return self.storage.exists(commit_path(shard))

    def committed(self, progress: Callable[[int, int], None] = lambda read, total: None) -> dict[int, int]:
        """Bytes by shard, for shards with a valid commit record of this run and plan.

        Valid records are read once; reading a million takes minutes on an object store.

        Args:
            progress: called with the number of commit records read so far and the number to read.
        """
        listed = self.listed()
        self._committed = {shard: size for shard, size in self._committed.items() if shard in listed}
        new = sorted(listed - self._committed.keys())
        parts = [new[start : start + _RECORDS_A_PART] for start in range(0, len(new), _RECORDS_A_PART)]
        with ThreadPoolExecutor(min(_READERS, max(1, len(parts)))) as pool:
            for read, valid in enumerate(pool.map(self._valid, parts), start=1):
                self._committed.update(valid)
                progress(min(read * _RECORDS_A_PART, len(new)), len(new))
        return dict(self._committed)

    def read_commit(self, shard: int) -> Commit:
        """The commit record; ShardError if it is missing, damaged, or of another run or plan.

        It may be of another run: a folder or live server may have been restarted with other settings since the
        manifest was read.
        """
        path = commit_path(shard)
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
            check_hash: compare size and SHA-256 of the files with the commit record before decoding.
        Raises:
            ShardError: not committed, or damaged.
        """
        row, layout = self._row(shard), self.layout()
        commit, paths = self.read_commit(shard), self.shard_paths(shard)
        if [file.path for file in commit.files] != paths:
            raise ShardError(f"{self._where(commit_path(shard))}: its files are not this shard's: generate it again")
        files = {path: self.storage.get(path) for path in paths}
        if check_hash:
            for file in commit.files:
                file.check(files[file.path], self._where(file.path))
        return self._codec().decode(row, layout, files.__getitem__)

    def shard_paths(self, shard: int) -> list[str]:
        """Paths of this shard's files."""
        return self._codec().paths(self._row(shard), self.layout())

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
