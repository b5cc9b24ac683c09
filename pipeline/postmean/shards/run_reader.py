"""Reading a run: manifest, plan, certificate and shards of a run folder or a live run."""

import numpy as np

from postmean.base.errors import ConfigError, ShardError
from postmean.base.json_files import JsonError, parse_json
from postmean.contract.commit import Commit
from postmean.contract.manifest import Manifest
from postmean.contract.plan import Plan, ShardPlan
from postmean.contract.records import Records
from postmean.shards.codec import Layout, ShardCodec
from postmean.shards.codecs import codec
from postmean.shards.npy import from_npy
from postmean.shards.run_paths import CERTIFIED_SIGMA, MANIFEST, PLAN, commit_path
from postmean.storage.storage import Reader


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


class RunReader:
    """Reads a run. Manifest and plan are read once and cached: open the run again to see an extension."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._manifest: Manifest | None = None
        self._plan: Plan | None = None

    @property
    def url(self) -> str:
        """Folder or URL of the run."""
        return self.reader.url

    def has_manifest(self) -> bool:
        """Whether a run has begun here."""
        return self.reader.exists(MANIFEST)

    def read_manifest(self) -> Manifest:
        """The manifest; ShardError if it is missing or damaged."""
        if self._manifest is None:
            where = self._where(MANIFEST)
            if not self.has_manifest():
                raise ShardError(f"{where}: no run there: make one with `postmean generate`")
            try:
                plain = parse_json(self.reader.get(MANIFEST))
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
            plan = Plan.from_bytes(self.reader.get(PLAN), self._where(PLAN))
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
        certified = from_npy(self.reader.get(CERTIFIED_SIGMA), where)
        if certified.dtype != np.float32 or certified.shape != (manifest.store_shape[0],):
            got = f"{certified.dtype} {certified.shape}"
            raise ShardError(f"{where}: {got}, expected float32 ({manifest.store_shape[0]},)")
        return certified

    def layout(self) -> Layout:
        """`layout_of` this run."""
        return layout_of(self.read_manifest(), self.read_plan())

    def is_committed(self, shard: int) -> bool:
        """Whether the shard has a commit record, valid or not."""
        return self.reader.exists(commit_path(shard))

    def read_commit(self, shard: int) -> Commit:
        """The commit record; ShardError if it is missing, damaged, or of another run or plan.

        It may be of another run: a folder or live server may have been restarted with other settings since the
        manifest was read.
        """
        path = commit_path(shard)
        row = self._row(shard)
        commit = Commit.from_bytes(self.reader.get(path), self._where(path))
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
        files = {path: self.reader.get(path) for path in paths}
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
            raise ShardError(f"{self.url}: shard {shard}, the plan has 0..{len(plan) - 1}")
        return plan[shard]

    def _where(self, path: str) -> str:
        return f"{self.url}/{path}"
