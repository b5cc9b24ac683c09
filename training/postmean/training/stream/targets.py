"""From tuple numbers to training targets: certified tuples made on the spot, the others read from shards."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from postmean.base.errors import MismatchError, ShardError
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.noisy import noisy
from postmean.contract.plan import Plan, uncertified
from postmean.contract.records import Records
from postmean.shards.run_folder import RunFolder
from postmean.training.stream.follow import Follower


@dataclass(frozen=True)
class Targets:
    """Columns of B consecutive tuples as numpy arrays; see `postmean.training.stream.stream.TargetBatch`."""

    tuple_id: np.ndarray
    z: np.ndarray
    sigma: np.ndarray
    sigma_next: np.ndarray | None
    x: np.ndarray
    eps: np.ndarray
    mean: np.ndarray
    mean_next: np.ndarray | None
    label: np.ndarray | None
    certified: np.ndarray


class TargetReader:
    """Reads any range of tuples of a run; fastest when the ranges rise, as one shard is held and one read ahead.

    Args:
        stop: no tuple from this one on will be asked for, so their shards are not read ahead.
        follower: waits for shards that are not committed yet; None where all are.
    """

    def __init__(
        self,
        run: RunFolder,
        manifest: Manifest,
        plan: Plan,
        store: ImageStore,
        stop: int,
        follower: Follower | None = None,
    ) -> None:
        self._follower = follower
        self._run, self._plan, self._store = run, plan, store
        self._source = manifest.tuple_source()
        self._heun = manifest.recipe.solver == "heun"
        self._certified_sigma = None if manifest.shards.self_contained else run.read_certified_sigma()
        self._ahead: tuple[int, Future[Records]] | None = None
        self._shard: tuple[int, Records] | None = None
        self._last_shard = shards_of(plan, 0, stop).stop - 1

    def read(self, start: int, stop: int) -> Targets:
        """Targets of tuples start .. stop - 1.

        Raises:
            ShardError: a shard is missing, truncated or damaged.
            MismatchError: a record is not of the tuple that the plan says.
        """
        block = self._source.block(start, stop)
        x, eps, z = noisy(self._source, self._store, block)
        recorded = uncertified(self._source, block, self._certified_sigma)
        mean, mean_next = x.copy(), x.copy() if self._heun else None
        rows = np.flatnonzero(recorded)
        while len(rows):
            number = self._plan.shard_of(int(block.tuple_id[rows[0]]))
            here = rows[: self._count_in(number, block.tuple_id[rows])]
            records = self._records(number, block.tuple_id[here])
            mean[here] = records.mean.decode(self._store)
            if mean_next is not None:
                if records.mean_next is None:
                    raise ShardError(f"shard {number:06d}: no mean_next though solver is heun: generate it again")
                mean_next[here] = records.mean_next.decode(self._store)
            rows = rows[len(here) :]
        return Targets(
            tuple_id=block.tuple_id,
            z=z,
            sigma=block.sigma,
            sigma_next=block.sigma_next,
            x=x,
            eps=eps,
            mean=mean,
            mean_next=mean_next,
            label=self._store.label(block.entry),
            certified=~recorded,
        )

    def stop(self) -> None:
        """End all waiting for shards that are not committed yet: with ShardError, until `restart`."""
        if self._follower is not None:
            self._follower.stop()

    def restart(self) -> None:
        """Read again after a `stop`, once the `read` that it ended has returned."""
        self._ahead = None
        if self._follower is not None:
            self._follower.restart()

    def _count_in(self, number: int, tuple_id: np.ndarray) -> int:
        """How many of these rising ids shard `number` holds, as the plan says."""
        if number >= len(self._plan):
            raise MismatchError(
                f"plan: tuple {tuple_id[0]} needs a record and no shard holds it: the certificate and the plan are "
                "of different runs: generate again"
            )
        return int(np.searchsorted(tuple_id, self._plan[number].last_tuple, side="right"))

    def _records(self, number: int, tuple_id: np.ndarray) -> Records:
        records = self._load(number)
        first = int(np.searchsorted(records.tuple_id, tuple_id[0]))
        found = records.slice(first, min(first + len(tuple_id), len(records)))
        if not np.array_equal(found.tuple_id, tuple_id):
            wrong = np.setdiff1d(tuple_id, found.tuple_id)
            raise MismatchError(
                f"shard {number:06d}: tuple_id: expected records of {tuple_id[0]}..{tuple_id[-1]}, "
                f"{len(wrong)} of {len(tuple_id)} are other ones: it belongs to another run, generate it again"
            )
        return found

    def _load(self, number: int) -> Records:
        if self._shard is None or self._shard[0] != number:
            if self._ahead is not None and self._ahead[0] == number:
                records = self._ahead[1].result()
            else:
                records = self._read(number)
            self._shard = (number, records)
            following = number + 1
            self._ahead = None
            if following <= self._last_shard:
                self._ahead = (following, self._begin(following))
        return self._shard[1]

    def _begin(self, number: int) -> Future[Records]:
        records: Future[Records] = Future()

        def read() -> None:
            try:
                records.set_result(self._read(number))
            except BaseException as error:
                records.set_exception(error)

        # not an executor: Python waits for its threads at exit, and this one may wait for a shard or a server for long
        threading.Thread(target=read, name="postmean-shard", daemon=True).start()
        return records

    def _read(self, number: int) -> Records:
        if self._follower is not None:
            self._follower.wait_for_shard(number)
        return self._run.read_shard(number)


def shards_of(plan: Plan, start: int, stop: int) -> range:
    """Shards that hold a record of tuples start .. stop - 1."""
    first = plan.shard_of(start)
    last = int(np.searchsorted(plan.first_tuple, stop, side="left"))
    return range(first, max(first, last))
