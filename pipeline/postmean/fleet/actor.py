"""The Ray actors: each makes shards of a run with a replica on one GPU or on CPU threads.

`load` loads everything, so that a bad store raises an error from that call instead of killing the actor. Only names and
small files are sent to an actor; it loads store and index itself.
"""

import time
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

from postmean.base.environment import store_cache_of_driver
from postmean.contract.image_store import ImageStore
from postmean.engine.process_setup import prepare_process
from postmean.estimators.replica import Replica
from postmean.shards.run_folder import RunFolder
from postmean.shards.run_paths import commit_path
from postmean.storage.memory import MemoryStorage
from postmean.storage.open import open_storage

if TYPE_CHECKING:
    from postmean.fleet.metrics import ActorMetrics


class ShardDone(TypedDict):
    """What an actor returns for a committed shard: metadata, never records."""

    shard: int
    tuples: int
    """From its first to its last tuple, including certified ones."""
    records: int
    bytes: int
    seconds: float


class LiveShard(ShardDone):
    """A shard with its files and commit record, by path."""

    files: dict[str, bytes]


class EstimatorActor:
    """Commits its shards to the run's storage.

    Args:
        out: the run's storage URL, with manifest, certificate and plan in it.
        store: URL of the image store, or its path on a file system that this machine sees.
        cache: the driver's POSTMEAN_STORE_CACHE; this node's own comes first.
    """

    def __init__(self, out: str, store: str, cache: str | None = None) -> None:
        self._maker = ShardMaker(RunFolder(open_storage(out)), store, cache)

    def placed(self) -> None:
        """Returns once Ray has found room for the actor and started it."""

    def load(self) -> None:
        """Load the replica: seconds to minutes, for a large store on a cold disk."""
        self._maker.load()

    def make(self, shard: int) -> ShardDone:
        """Estimate one shard of the plan, write it and commit it."""
        return self._maker.make(shard)[0]


class LiveActor:
    """Returns its shards: commits them to its own memory and hands the files over.

    Args:
        files: the run's manifest, plan and certificate.
        store, cache: as for `EstimatorActor`.
    """

    def __init__(self, files: dict[str, bytes], store: str, cache: str | None = None) -> None:
        self._memory = MemoryStorage(files)
        self._maker = ShardMaker(RunFolder(self._memory), store, cache)

    def placed(self) -> None:
        """As for `EstimatorActor`."""

    def load(self) -> None:
        """As for `EstimatorActor`."""
        self._maker.load()

    def make(self, shard: int) -> LiveShard:
        """Estimate one shard of the plan and return its files."""
        done, paths = self._maker.make(shard)
        return LiveShard(**done, files={path: self._memory.files.pop(path) for path in paths})


class ShardMaker:
    """Makes shards of one run with one replica.

    Args:
        run: holds the manifest, the certificate and the plan; the shards are written there.
        store, cache: as for `EstimatorActor`.
    """

    def __init__(self, run: RunFolder, store: str, cache: str | None = None) -> None:
        self._run, self._store = run, store
        store_cache_of_driver(cache)

    def load(self) -> None:
        """Load the replica."""
        self._replica.load()
        _ = self._metrics

    def make(self, shard: int) -> tuple[ShardDone, list[str]]:
        """Estimate one shard of the plan and commit it; returns the paths of its files too.

        Several threads may make shards at the same time: one estimates while others prepare, pack and write.
        """
        began = time.monotonic()
        row = self._run.read_plan()[shard]
        records = self._replica.records(row)
        searched = time.monotonic() - began
        commit = self._run.commit_shard(row, records)
        self._metrics.committed(records, commit.size, searched)
        done = ShardDone(
            shard=shard,
            tuples=row.last_tuple - row.first_tuple + 1,
            records=row.records,
            bytes=commit.size,
            seconds=time.monotonic() - began,
        )
        return done, [*(file.path for file in commit.files), commit_path(shard)]

    @cached_property
    def _metrics(self) -> "ActorMetrics":
        from postmean.fleet.metrics import ActorMetrics  # imports ray: the driver sets Ray's environment first

        return ActorMetrics(self._run.storage.url)

    @cached_property
    def _replica(self) -> Replica:
        manifest, where = self._run.read_manifest(), self._run.storage.url
        prepare_process(manifest.threads_per_actor)
        images = ImageStore.open(self._store, progress=False)
        manifest.check_store(images.header.fingerprint, where)
        manifest.check_code(where)
        manifest.check_tuples(where)
        images.check()  # now: with a damaged store every shard would fail, one after the other
        return Replica(manifest, images, self._run.read_certified_sigma())
