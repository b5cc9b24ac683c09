"""The run folder: manifest, plan, certificate, shards and commit records of one run, in any storage.

OUT/manifest.json            identity of the run
OUT/README.md                data-set card, for people and for `datasets`
OUT/plan.parquet             which tuples are in which shard
OUT/certified_sigma.npy      float32 [N], only with the certificate
OUT/shards/000042.tar        the shards; OUT/targets.zarr/ in Zarr format
OUT/commits/000042.json      written last: a shard without it does not exist
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from postmean.base.device import machine_kind
from postmean.base.errors import ShardError
from postmean.contract.commit import Commit, FileDigest
from postmean.contract.manifest import Manifest
from postmean.contract.plan import Plan, ShardPlan
from postmean.contract.records import QUALITY_COLUMNS, Records
from postmean.shards.card import CARD, attributes, run_card
from postmean.shards.codecs import codec
from postmean.shards.run_digests import RunDigests, certificate_bytes, manifest_bytes
from postmean.shards.run_paths import CERTIFIED_SIGMA, COMMITS, MANIFEST, PLAN, commit_path, shard_of_commit
from postmean.shards.run_reader import RunReader, layout_of
from postmean.storage.storage import Storage

_RECORDS_A_PART, _RECORDS_AT_ONCE = 16, 4096
_READERS, _LOCAL_READERS = 64, 4
"""Threads that read commit records: object stores answer slowly, but many requests at a time; on a disk, many threads
only wait for each other."""


class RunFolder(RunReader):
    """Reads and writes a run."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.storage = storage
        self._committed = np.zeros(0, np.int64)  # as `committed` found it last

    def begin(self, manifest: Manifest, plan: Plan, certified_sigma: np.ndarray | None) -> None:
        """Begin a run or extend it: write certificate, plan, the format's metadata and, last, the manifest.

        If this is killed, the run has begun, or was extended, either completely or not at all: a run without a
        manifest has not begun, and shards of the plan beyond the manifest's tuples do not count.

        Args:
            certified_sigma: float32 [N]; None in a run without the certificate, which removes any existing file.
        """
        metadata = codec(manifest.shards.format).run_files(layout_of(manifest, plan), attributes(manifest))
        digests = RunDigests.of(plan, certified_sigma, metadata)
        if certified_sigma is None:
            self.storage.delete(CERTIFIED_SIGMA)
        else:
            self.storage.put(CERTIFIED_SIGMA, certificate_bytes(certified_sigma))
        self.storage.put(PLAN, plan.to_bytes())
        for path, data in metadata.items():
            self.storage.put(path, data)
        if not (self.has_manifest() and self.storage.exists(CARD)):  # an extension leaves people's edits alone
            self.storage.put(CARD, run_card(manifest))
        self.storage.put(MANIFEST, manifest_bytes(manifest, digests))
        self._manifest, self._digests, self._plan, self._layout = manifest, digests, plan, None

    def lacks_files(self) -> bool:
        """Whether a file that belongs to the manifest was removed: plan, certificate or metadata of the format."""
        digests = self.read_digests()
        paths = [PLAN, *digests.metadata, *([CERTIFIED_SIGMA] if digests.certified_sigma else [])]
        return not all(self.storage.exists(path) for path in paths)

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
            made_on=machine_kind(self.read_manifest().device),
            statistics=statistics,
        )
        self.storage.put(commit_path(row.shard), commit.to_bytes())
        return commit

    def listed(self) -> np.ndarray:
        """Which shards of the plan have a commit record, valid or not, bool [shards]: one listing, nothing is read."""
        listed = np.zeros(len(self.read_plan()), bool)
        for path in self.storage.each(COMMITS):
            shard = shard_of_commit(path)
            if shard is not None and shard < len(listed):
                listed[shard] = True
        return listed

    def committed(self, progress: Callable[[int, int], None] = lambda read, total: None) -> np.ndarray:
        """Bytes of each shard with a valid commit record of this run and plan, 0 for the others, int64 [shards].

        Valid records are read once; reading a million takes minutes on an object store.

        Args:
            progress: called with the number of commit records read so far and the number to read.
        """
        listed = self.listed()
        before = self._committed[: len(listed)]  # an extension has more shards, and the same before them
        sizes = np.zeros(len(listed), np.int64)
        sizes[: len(before)] = np.where(listed[: len(before)], before, 0)
        new = np.flatnonzero(listed & (sizes == 0))
        readers = _READERS if self.is_remote else _LOCAL_READERS
        with ThreadPoolExecutor(min(readers, max(1, len(new) // _RECORDS_A_PART))) as pool:
            for start in range(0, len(new), _RECORDS_AT_ONCE):
                shards = new[start : start + _RECORDS_AT_ONCE]
                parts = np.array_split(shards, -(-len(shards) // _RECORDS_A_PART))
                sizes[shards] = np.concatenate(list(pool.map(self._sizes, parts)))
                progress(min(start + _RECORDS_AT_ONCE, len(new)), len(new))
        self._committed = sizes
        return sizes.copy()

    def _sizes(self, shards: np.ndarray) -> np.ndarray:
        """Bytes of these shards, 0 where the commit record is not valid."""
        sizes = np.zeros(len(shards), np.int64)
        for row, shard in enumerate(shards.tolist()):
            with suppress(ShardError):
                sizes[row] = max(0, self.read_commit(shard).size)
        return sizes
