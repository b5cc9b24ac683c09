"""A sample of a run's records and tuples by sigma, small whatever the size of the run."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from postmean.base.errors import ShardError
from postmean.contract.image_store import ImageStore
from postmean.contract.noisy import noisy
from postmean.contract.plan import shard_tuples, uncertified
from postmean.contract.records import Records
from postmean.shards.run_folder import RunFolder

_SHARDS = 12
_BLOCKS, _BLOCK = 16, 4096
_MOST_PICTURES = 12


@dataclass(frozen=True, kw_only=True)
class RecordSample:
    """Columns of the records of some shards, [n] each, by rising sigma."""

    shards: int
    """Shards that were read."""
    damaged: int
    """Shards that could not be read."""
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["sigma"])


@dataclass(frozen=True, kw_only=True)
class TupleSample:
    """Some tuples of the run, from its first to its last."""

    sigma: np.ndarray
    """float32 [n]"""
    certified: np.ndarray
    """bool [n]; all False in a run without the certificate"""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One record as pictures."""

    tuple_id: int
    sigma: float
    label: int | None
    ess: float
    top_weight: float
    count: int
    """Pairs of a sparse mean, -1 for a dense one."""
    z: np.ndarray
    """float32 [C, H, W]"""
    x: np.ndarray
    mean: np.ndarray
    """float32 [C, H, W], in [-1, 1]"""


class RunSamples:
    """Reads the samples. A shard that was read once is not read again.

    Args:
        store: for pictures; None without one.
    """

    def __init__(self, run: RunFolder, store: ImageStore | None) -> None:
        self._run, self._store = run, store
        self._manifest = run.read_manifest()
        certified = run.read_certified_sigma()
        self._certified = self._manifest.plan_certificate(certified)
        self._columns: dict[int, dict[str, np.ndarray] | None] = {}
        self._examples: dict[int, list[Example]] = {}

    def records(self, shards: list[int]) -> RecordSample:
        """Columns of up to a dozen of these shards, evenly spaced, and pictures kept for `examples`."""
        chosen = _spread(shards, _SHARDS)
        for shard in chosen:
            if shard not in self._columns:
                self._columns[shard] = self._read(shard)
        read = [columns for shard in chosen if (columns := self._columns[shard]) is not None]
        names = ("sigma", "ess", "top_weight", "variance", "tail_mass", "count")
        columns = {name: np.concatenate([part[name] for part in read]) if read else np.empty(0) for name in names}
        order = np.argsort(columns["sigma"], kind="stable")
        return RecordSample(
            shards=len(read),
            damaged=len(chosen) - len(read),
            columns={name: column[order] for name, column in columns.items()},
        )

    def examples(self, shards: list[int]) -> list[Example]:
        """Records of the shards of `records`, at sigmas from the lowest to the highest; none without a store."""
        found = [e for shard in _spread(shards, _SHARDS) for e in self._examples.get(shard, ())]
        found.sort(key=lambda example: example.sigma)
        return [found[row] for row in np.linspace(0, len(found) - 1, min(_MOST_PICTURES, len(found))).astype(int)]

    def tuples(self) -> TupleSample:
        """Up to 65 536 tuples, evenly spaced over the run: a curriculum changes their sigma."""
        source, tuples = self._manifest.tuple_source(), self._manifest.tuples
        sigma, certified = [], []
        starts = range(0, tuples, _BLOCK)
        if len(starts) > _BLOCKS:
            starts = np.linspace(0, tuples - _BLOCK, _BLOCKS).astype(int).tolist()
        for start in starts:
            block = source.block(start, min(start + _BLOCK, tuples))
            sigma.append(block.sigma)
            certified.append(~uncertified(source, block, self._certified))
        return TupleSample(sigma=np.concatenate(sigma), certified=np.concatenate(certified))

    def _read(self, shard: int) -> dict[str, np.ndarray] | None:
        try:
            records = self._run.read_shard(shard)
        except ShardError:
            return None
        if self._store is not None:
            with suppress(ShardError):
                self._examples[shard] = self._draw(shard, records, self._store)
        names = ("sigma", "ess", "top_weight", "variance", "tail_mass")
        return {name: getattr(records, name) for name in names} | {"count": records.mean.count}

    def _draw(self, shard: int, records: Records, store: ImageStore) -> list[Example]:
        row = self._run.read_plan()[shard]
        source = self._manifest.tuple_source()
        block = shard_tuples(source, row, self._certified)
        order = np.argsort(records.sigma, kind="stable")
        rows = np.unique(order[np.linspace(0, len(order) - 1, min(_MOST_PICTURES, len(order))).astype(int)])
        x, _, z = noisy(source, store, block.select(rows))
        return [
            Example(
                tuple_id=int(records.tuple_id[r]),
                sigma=float(records.sigma[r]),
                label=None if records.label is None else int(records.label[r]),
                ess=float(records.ess[r]),
                top_weight=float(records.top_weight[r]),
                count=int(records.mean.count[r]),
                z=z[place],
                x=x[place],
                mean=records.mean.slice(r, r + 1).decode(store)[0],
            )
            for place, r in enumerate(rows.tolist())
        ]


def _spread(shards: list[int], most: int) -> list[int]:
    """At most so many of these shards, evenly spaced.

    Powers of two apart, so that most of those chosen stay as a run grows, and are not read again.
    """
    step = 1
    while len(shards) > most * step:
        step *= 2
    return shards[::step]
