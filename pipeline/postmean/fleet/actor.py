"""The Ray actor: a replica on one GPU or on CPU threads, which estimates shards and commits them itself."""

import time
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

from postmean.contract.image_store import ImageStore
from postmean.engine.process_setup import prepare_process
from postmean.estimators.replica import Replica
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage

if TYPE_CHECKING:
    from postmean.fleet.metrics import ActorMetrics


class ShardDone(TypedDict):
    """What an actor tells of a committed shard: metadata, never records."""

    shard: int
    records: int
    bytes: int
    seconds: float


class EstimatorActor:
    """Loads store, index and run by itself; only names travel to it.

    Everything is loaded by `load`: what is wrong with a store is then the call's error, not the actor's death.

    Args:
        out: the run's storage URL, with manifest, certificate and plan in it.
        store: path of the image store, on a file system that this machine sees.
    """

    def __init__(self, out: str, store: str) -> None:
        self._begin(RunFolder(open_storage(out)), store)

    def _begin(self, run: RunFolder, store: str) -> None:
        self._run, self._store = run, store

    def placed(self) -> None:
        """Returns once Ray has found room for the actor and started it."""

    def load(self) -> None:
        """Load the replica: seconds to minutes, for a large store on a cold disk."""
        _ = self._replica

    def make(self, shard: int) -> ShardDone:
        """Estimate one shard of the plan, write it and commit it."""
        began = time.monotonic()
        row = self._run.read_plan()[shard]
        records = self._replica.records(row)
        searched = time.monotonic() - began
        commit = self._run.commit_shard(row, records)
        self._metrics.committed(records, commit.size, searched)
        return ShardDone(shard=shard, records=row.records, bytes=commit.size, seconds=time.monotonic() - began)

    @cached_property
    def _metrics(self) -> "ActorMetrics":
        from postmean.fleet.metrics import ActorMetrics  # imports ray, whose environment the driver sets first

        return ActorMetrics(self._run.storage.url)

    @cached_property
    def _replica(self) -> Replica:
        manifest, where = self._run.read_manifest(), self._run.storage.url
        prepare_process(manifest.threads_per_actor)
        images = ImageStore.open(self._store)
        manifest.check_store(images.header.fingerprint, where)
        manifest.check_code(where)
        manifest.check_tuples(where)
        return Replica(manifest, images, self._run.read_certified_sigma())
