"""Reading a run: manifest, plan, certificate and shards of a run folder or a live run."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from postmean.base.errors import ConfigError, MismatchError, ShardError
from postmean.base.json_files import JsonError, parse_json
from postmean.contract.commit import Commit
from postmean.contract.manifest import FLAT_CHUNKS, Manifest
from postmean.contract.plan import Plan, ShardPlan
from postmean.contract.records import Records
from postmean.shards.codec import Layout, ShardCodec
from postmean.shards.codecs import codec
from postmean.shards.npy import from_npy
from postmean.shards.run_digests import RunDigests, read_manifest_bytes, sha256_of
from postmean.shards.run_paths import CERTIFIED_SIGMA, CONFIG, MANIFEST, PLAN, commit_path
from postmean.storage.storage import Reader

_MAKE_AGAIN = "remove it, if it is there, and run the same `postmean generate` again"


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
            chunk_folders=manifest.schema_version < FLAT_CHUNKS,
        )
    except (ConfigError, TypeError, IndexError) as error:
        raise ShardError(f"{MANIFEST}: {error}: it was edited: generate again into another folder") from error


@contextmanager
def _remedy(remedy: str) -> Iterator[None]:
    """Add to a ShardError what to do about it."""
    try:
        yield
    except ShardError as error:
        raise ShardError(f"{error}: {remedy}") from error


class RunReader:
    """Reads a run. Manifest and plan are read once and cached: open the run again to see an extension."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._manifest: Manifest | None = None
        self._digests: RunDigests | None = None
        self._plan: Plan | None = None
        self._layout: Layout | None = None

    @property
    def url(self) -> str:
        """Folder or URL of the run."""
        return self.reader.url

    @property
    def is_remote(self) -> bool:
        """Whether the run is at a URL, where a read takes long to be answered."""
        return "://" in self.url

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
            try:
                self._manifest, self._digests = read_manifest_bytes(plain, where)
            except (JsonError, ConfigError) as error:
                raise ShardError(f"{where}: {error}: generate again into another folder") from error
        return self._manifest

    def read_digests(self) -> RunDigests:
        """The hashes in the manifest; ShardError if it is missing or damaged."""
        self.read_manifest()
        assert self._digests is not None
        return self._digests

    def read_plan(self) -> Plan:
        """The plan; ShardError if it is missing, damaged or not the one that the manifest belongs to.

        Shards beyond the manifest's tuples are left out: they belong to an extension that was not completed.
        """
        if self._plan is None:
            # read the manifest first: a plan is written before its manifest
            digests, where = self.read_digests(), self._where(PLAN)
            with _remedy(_MAKE_AGAIN):
                plan = Plan.from_bytes(self.reader.get(PLAN), where).until(self.read_manifest().tuples)
                if plan.sha256() != digests.plan:
                    raise ShardError(f"{where}: not the plan that this run began with")
            self._plan = plan
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
        with _remedy(_MAKE_AGAIN):
            data = self.reader.get(CERTIFIED_SIGMA)
            if sha256_of(data) != self.read_digests().certified_sigma:
                raise ShardError(f"{where}: not the certificate that this run began with")
        certified = from_npy(data, where)
        if certified.dtype != np.float32 or certified.shape != (manifest.store_shape[0],):
            got = f"{certified.dtype} {certified.shape}"
            raise ShardError(f"{where}: {got}, expected float32 ({manifest.store_shape[0]},)")
        return certified

    def check_metadata(self) -> None:
        """Raise ShardError if a file that other readers of the format need, and this one does not, is damaged."""
        for path, sha256 in self.read_digests().metadata.items():
            with _remedy(_MAKE_AGAIN):
                if sha256_of(self.reader.get(path)) != sha256:
                    raise ShardError(f"{self._where(path)}: not what was written")

    def check_made_again(self, plan: Plan, certified_sigma: np.ndarray | None) -> None:
        """Check a plan, and a certificate, that were made again because the run's own were removed.

        Args:
            plan: may go beyond this run's tuples.
        Raises:
            MismatchError: they are not those that the run began with.
        """
        digests = self.read_digests()
        again = RunDigests.of(plan.until(self.read_manifest().tuples), certified_sigma, {})
        for path, ours, theirs in (
            (CERTIFIED_SIGMA, again.certified_sigma, digests.certified_sigma),
            (PLAN, again.plan, digests.plan),
        ):
            if ours != theirs:
                raise MismatchError(
                    f"{self._where(path)}: made again, it is not the one that this run began with: the store was "
                    "indexed with other settings since: pass another --out"
                )

    def layout(self) -> Layout:
        """`layout_of` this run, once: it counts the records of the whole plan."""
        if self._layout is None:
            self._layout = layout_of(self.read_manifest(), self.read_plan())
        return self._layout

    def is_committed(self, shard: int) -> bool:
        """Whether the shard has a commit record, valid or not."""
        return self.reader.exists(commit_path(shard))

    def read_commit(self, shard: int) -> Commit:
        """The commit record; ShardError if it is missing, damaged, or of another run or plan.

        It may be of another run: a folder or live server may have been restarted with other settings since the
        manifest was read.
        """
        row, run = self._row(shard), self.read_manifest().fingerprint
        path = commit_path(shard)
        where = self._where(path)
        with _remedy(self.make_again(shard)):
            commit = Commit.from_bytes(self.reader.get(path), where)
            if commit.run != run:
                raise ShardError(
                    f"{where}: made by a run of other settings ({commit.run[:12]}) than the manifest says "
                    f"({run[:12]}): if it is live, start `postmean serve` as before"
                )
            if ShardPlan(commit.shard, commit.first_tuple, commit.last_tuple, commit.records) != row:
                raise ShardError(f"{where}: not of this plan's shard {row}")
        return commit

    def read_shard(self, shard: int, check_hash: bool = True, commit: Commit | None = None) -> Records:
        """The records of a committed shard.

        Args:
            check_hash: compare size and SHA-256 of the files with the commit record before decoding.
            commit: its commit record, where that has been read.
        Raises:
            ShardError: not committed, or damaged.
        """
        files = self._files(shard, check_hash, commit or self.read_commit(shard))
        with _remedy(self.make_again(shard)):
            return self._codec().decode(self._row(shard), self.layout(), files.__getitem__)

    def read_parts(self, shard: int) -> list[Records]:
        """The records of `read_shard` in one or more parts, in order: faster, as nothing is copied.

        Raises:
            ShardError: not committed, or damaged.
        """
        files = self._files(shard, True, self.read_commit(shard))
        with _remedy(self.make_again(shard)):
            return self._codec().decode_parts(self._row(shard), self.layout(), files.__getitem__)

    def _files(self, shard: int, check_hash: bool, commit: Commit) -> dict[str, bytes]:
        paths = self.shard_paths(shard)
        with _remedy(self.make_again(shard)):
            if [file.path for file in commit.files] != paths:
                raise ShardError(f"{self._where(commit_path(shard))}: its files are not this shard's")
            files = {path: self.reader.get(path) for path in paths}
            if check_hash:
                for file in commit.files:
                    file.check(files[file.path], self._where(file.path))
            return files

    def named_store(self) -> str | None:
        """Image store that the run was made from, as its config.json says; None if there is none or it does not."""
        with suppress(ShardError, JsonError, TypeError, KeyError):
            return str(parse_json(self.reader.get(CONFIG))["store"])
        return None

    def make_again(self, shard: int) -> str:
        """What to do about a damaged shard."""
        return f"remove {self._where(commit_path(shard))} and run the same `postmean generate` again"

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
