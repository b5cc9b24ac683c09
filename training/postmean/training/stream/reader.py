"""From tuple numbers to training targets: certified tuples are made on the spot, others are read from shards."""

from concurrent.futures import CancelledError
from dataclasses import dataclass, replace

import numpy as np
import torch

from postmean.base.errors import MismatchError, ShardError
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.noisy import noisy
from postmean.contract.plan import Plan, uncertified
from postmean.contract.recipe import TargetRecipe
from postmean.contract.records import Records
from postmean.shards.run_reader import RunReader
from postmean.training.stream.ahead import Ahead
from postmean.training.stream.batch import TargetBatch
from postmean.training.stream.follow import Follower

_SHARDS_AHEAD = 2
"""One core hashes a shard of dense means no faster than another decodes it."""
_CERTIFIED = {"ess": 1.0, "variance": 0.0, "top_weight": 1.0}
"""Quality of a mean that is the source image."""


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """What readers need of a run: its reader, manifest, plan, certificate and image store."""

    where: str
    """Its folder or URL, as the user gave it."""
    reader: RunReader
    manifest: Manifest
    plan: Plan
    certified_sigma: np.ndarray | None
    """float32 [N]; None where every tuple has a record."""
    store: ImageStore
    recipe: TargetRecipe
    """What the trainer takes from the targets: its sigma_next, and mean_next only for Heun."""
    follow_seconds: float
    """Longest wait for each shard that is not committed yet; 0: no wait."""

    @classmethod
    def of(
        cls, where: str, reader: RunReader, store: ImageStore, recipe: TargetRecipe | None, follow_seconds: float
    ) -> "OpenRun":
        """Read manifest, plan and certificate; raises ShardError if one is damaged.

        Args:
            recipe: one that the run suits; None for the run's own.
        """
        manifest = reader.read_manifest()
        return cls(
            where=where,
            reader=reader,
            manifest=manifest,
            plan=reader.read_plan(),
            certified_sigma=None if manifest.shards.self_contained else reader.read_certified_sigma(),
            store=store,
            recipe=recipe or manifest.recipe,
            follow_seconds=follow_seconds,
        )


class TargetReader:
    """Reads any range of tuples of a run. Rising ranges are fastest: it holds one shard and reads the next two ahead.

    Args:
        stop: end of the tuples that will be read; later shards are not read ahead.
    """

    def __init__(self, run: OpenRun, stop: int) -> None:
        self._run = run
        self._source = replace(run.manifest.tuple_source(), noise=run.recipe.noise)
        self._follower = Follower(run.reader, run.follow_seconds) if run.follow_seconds > 0 else None
        self._stop_shard = run.plan.shards_of(0, stop).stop
        self._held: tuple[int, list[Records]] | None = None  # a shard's number, its records
        self._ahead: Ahead[list[Records]] | None = None  # the shards after the held one
        self._closed = False

    def read(self, start: int, stop: int) -> TargetBatch:
        """Targets of tuples start .. stop - 1.

        Raises:
            ShardError: a shard is missing, truncated or damaged, or `close` was called while waiting for it.
            MismatchError: the records of a shard are not those of the plan.
            CancelledError: `close` was called.
        """
        run, store = self._run, self._run.store
        block = self._source.block(start, stop)
        x, eps, z = noisy(self._source, store, block)
        recorded = uncertified(self._source, block, run.certified_sigma)
        mean, mean_next = x.copy(), x.copy() if run.recipe.solver == "heun" else None
        quality = {name: np.full(len(block), of_certified, np.float32) for name, of_certified in _CERTIFIED.items()}
        rows = np.flatnonzero(recorded)
        while len(rows):
            number = run.plan.shard_of(int(block.tuple_id[rows[0]]))
            here = rows[: self._count_in(number, block.tuple_id[rows])]
            for records in self._records(number, block.tuple_id[here]):
                here, rows = rows[: len(records)], rows[len(records) :]
                mean[here] = records.mean.decode(store)
                for name, column in quality.items():
                    column[here] = getattr(records, name)
                if mean_next is not None:
                    if records.mean_next is None:
                        remedy = run.reader.make_again(number)
                        raise ShardError(f"shard {number:06d}: no mean_next though solver is heun: {remedy}")
                    mean_next[here] = records.mean_next.decode(store)
        return TargetBatch(
            tuple_id=torch.from_numpy(block.tuple_id),
            z=torch.from_numpy(z),
            sigma=torch.from_numpy(block.sigma),
            sigma_next=_tensor(block.sigma_next),
            x=torch.from_numpy(x),
            eps=torch.from_numpy(eps),
            mean=torch.from_numpy(mean),
            mean_next=_tensor(mean_next),
            label=_tensor(store.label(block.entry)),
            certified=torch.from_numpy(~recorded),
            **{name: torch.from_numpy(column) for name, column in quality.items()},
        )

    def close(self, seconds: float = 0.0) -> None:
        """Stop reading ahead and waiting for shards, also in a `read` of another thread.

        Args:
            seconds: longest wait for the threads that read ahead.
        """
        self._closed = True
        if self._follower is not None:
            self._follower.stop()
        if self._ahead is not None:
            self._ahead.close(seconds)

    def _count_in(self, number: int, tuple_id: np.ndarray) -> int:
        """How many of these rising ids are in shard `number`, according to the plan."""
        if number >= len(self._run.plan):
            raise MismatchError(
                f"plan: tuple {tuple_id[0]} needs a record and no shard holds it: the certificate and the plan are "
                "of different runs: generate again into another folder"
            )
        return int(np.searchsorted(tuple_id, self._run.plan[number].last_tuple, side="right"))

    def _records(self, number: int, tuple_id: np.ndarray) -> list[Records]:
        """The records of these rising ids, in parts."""
        asked = []
        for part in self._load(number):
            first, stop = np.searchsorted(part.tuple_id, [tuple_id[0], tuple_id[-1] + 1]).tolist()
            if first < stop:
                asked.append(part.slice(first, stop))
        found = np.concatenate([part.tuple_id for part in asked]) if asked else np.empty(0, np.int64)
        if not np.array_equal(found, tuple_id):
            wrong = np.setxor1d(tuple_id, found)
            raise MismatchError(
                f"shard {number:06d}: tuple_id: expected records of {tuple_id[0]}..{tuple_id[-1]}, "
                f"{len(wrong)} of {len(tuple_id)} are other ones: it belongs to another run: "
                f"{self._run.reader.make_again(number)}"
            )
        return asked

    def _load(self, number: int) -> list[Records]:
        """The records of a shard; the next ones are read in the background."""
        held, self._held = self._held, None  # on an exception nothing stays held: a shard that failed is read again
        if held is None or held[0] != number:
            if held is None or held[0] + 1 != number:
                self._jump(number)
            assert self._ahead is not None
            held = (number, self._ahead.take())
        self._held = held
        return held[1]

    def _jump(self, number: int) -> None:
        """Read ahead from this shard on."""
        if self._ahead is not None:
            self._ahead.close()
        threads = _SHARDS_AHEAD if self._follower is None else 1  # of a run that grows, shards come one by one
        self._ahead = Ahead(self._read, range(number, self._stop_shard), threads, "postmean-shard", threads)
        if self._closed:  # closed by another thread, which may not have seen the new `_ahead`
            self._ahead.close()
            raise CancelledError

    def _read(self, number: int) -> list[Records]:
        if self._follower is not None:
            self._follower.wait_for_shard(number)
        return self._run.reader.read_parts(number)


def _tensor(column: np.ndarray | None) -> torch.Tensor | None:
    return None if column is None else torch.from_numpy(column)
