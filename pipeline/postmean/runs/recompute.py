"""Recompute sampled tuples in float64: records, Euler points and certified tuples together, in passes over the images.

A pass serves up to 512 queries, and needs as much time for the images as for 50 of them, so few records cost nearly as
much as many. Heun's Euler points depend on the means before them: they are a second pass. Where the mean is an average
over the way to a teacher point, each evaluation on the way is a pass.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from postmean.base.progress import ShowProgress
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.noisy import noisy
from postmean.contract.records import Means, Records
from postmean.contract.tuples import TupleBlock
from postmean.estimators.float64_twins import TWINS, TwinPoint
from postmean.estimators.traits import traits_of
from postmean.estimators.twin_test import StoredMean, TwinComparison, TwinTest
from postmean.runs.exact_populations import ExactPopulations
from postmean.runs.verify_sample import Sample, joined

_AT_ONCE = 256  # records of a batch, and certified tuples: with Euler points 512 queries, 100 kB each at D = 12 288
_PILOT = 16  # records whose time is measured first, where time is limited
_JUDGED = 64  # records compared with the twin at each point: their draws cost more than the passes
_Z_ERROR = 2.0**-12  # of an Euler point: half a step of float16, with which the mean before it is stored


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Recomputed tuples of one kind."""

    kind: str
    """records, mean_next (records at the Euler point) or certified"""
    sigma: np.ndarray
    """float32 [n]"""
    mse: np.ndarray
    """float64 [n], mean squared error per dimension against the exact mean"""


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """What recomputation found."""

    records: int
    """Records recomputed, fewer than sampled where time was short."""
    errors: list[Errors]
    """One of each kind that the run has"""
    twins: list[tuple[str, int, TwinComparison]]
    """(kind, records, comparison) of an estimator that has a twin"""


def recompute(
    sample: Sample, manifest: Manifest, store: ImageStore, seconds: float | None, show: ShowProgress
) -> Recomputed:
    """Recompute a sample.

    Args:
        seconds: begin no batch that would need more than this in all; None: recompute the whole sample.
    """
    records, certified = sample.spread()
    work = _Recomputation(manifest, store)
    done, size, began = 0, _AT_ONCE if seconds is None else _PILOT, time.monotonic()
    pilot, planned = 0.0, max(len(records), len(certified))
    while done < planned and size >= _PILOT:
        batch = slice(done, min(done + size, planned))
        batches = 1 if seconds is not None else -(-(planned - done) // size)
        work.run(records[batch], certified[batch], batches, show)
        done = batch.stop
        if seconds is not None:
            spent = time.monotonic() - began
            pilot = pilot or spent
            # larger batches share a pass: none of their records takes longer than the first ones
            size = min(_AT_ONCE, int((seconds - spent) / pilot * _PILOT))
    return work.result(show)


def is_judged(manifest: Manifest) -> bool:
    """Whether the run's means have a twin. Those of an approximate search have none, as its neighbours are not the
    nearest, nor have averages over the way to a teacher point."""
    searches_exactly = not manifest.estimator.index.startswith("ivf")
    return manifest.estimator.name in TWINS and searches_exactly and not manifest.recipe.substeps


@dataclass
class _Queries:
    """Points of one kind, the means stored for them, and whether those are dense."""

    kind: str
    entry: np.ndarray
    z: np.ndarray
    sigma: np.ndarray
    sigma_next: np.ndarray | None
    mean: np.ndarray
    is_dense: np.ndarray

    def __len__(self) -> int:
        return len(self.entry)


@dataclass
class _Recomputation:
    manifest: Manifest
    store: ImageStore
    count: int = 0
    read: int = 0
    """Members read so far, in all passes"""
    sigma: dict[str, list[np.ndarray]] = field(default_factory=dict[str, list[np.ndarray]])
    mse: dict[str, list[np.ndarray]] = field(default_factory=dict[str, list[np.ndarray]])
    pending: list[tuple[str, StoredMean]] = field(default_factory=list[tuple[str, StoredMean]])
    """Means of this batch to compare with the twin, and their kinds"""
    tests: dict[str, TwinTest] = field(default_factory=dict[str, TwinTest])

    def __post_init__(self) -> None:
        self._populations = ExactPopulations(self.manifest, self.store)

    def run(
        self,
        picked: list[tuple[TupleBlock, Records]],
        certified: list[TupleBlock],
        batches: int,
        show: ShowProgress,
    ) -> None:
        """Recompute a batch, one of `batches` that are left."""
        first = [self._stored("records", picked)] if picked else []
        first += [self._certified(certified)] if certified else []
        later = picked and picked[0][1].mean_next is not None
        evaluations = max(1, 2 * self.manifest.recipe.substeps)
        members = evaluations * self._members(first) + (self._members(first[:1]) if later else 0)
        with show("recompute", self.read + members * batches, "images") as line:
            line.start_at(self.read)

            def report(read: int) -> None:
                self.read += read
                line.update(self.read)

            exact = self._pass(first, report)
            if later:
                self._pass([self._euler(picked, first[0], exact[: len(picked)])], report)
        self.count += len(picked)
        with show("compare with the twin", len(self.pending), "records") as line:
            for number, (kind, one) in enumerate(self.pending):
                self.tests.setdefault(kind, TwinTest(self.manifest.estimator, self.manifest.seed)).add(one)
                line.update(number + 1)
        self.pending.clear()

    def result(self, show: ShowProgress) -> Recomputed:
        """All that was found."""
        twins: list[tuple[str, int, TwinComparison]] = []
        for kind, test in self.tests.items():
            with show("compare again", len(test), "records") as line:
                twins.append((kind, len(test), test.result(line.update)))
        errors = [
            Errors(kind=kind, sigma=np.concatenate(sigma), mse=np.concatenate(self.mse[kind]))
            for kind, sigma in self.sigma.items()
        ]
        return Recomputed(records=self.count, errors=errors, twins=twins)

    def _stored(self, kind: str, picked: list[tuple[TupleBlock, Records]]) -> _Queries:
        block = joined([block for block, _ in picked])
        z = self._flat(noisy(self.manifest.tuple_source(), self.store, block)[2])
        means = self._decode([records.mean for _, records in picked])
        return _Queries(kind, block.entry, z, block.sigma, block.sigma_next, *means)

    def _certified(self, tuples: list[TupleBlock]) -> _Queries:
        block = joined(tuples)
        x, _, z = noisy(self.manifest.tuple_source(), self.store, block)
        return _Queries(
            "certified",
            block.entry,
            self._flat(z),
            block.sigma,
            block.sigma_next,
            self._flat(x),
            np.zeros(len(block), np.bool_),
        )

    def _euler(self, picked: list[tuple[TupleBlock, Records]], at: _Queries, exact: np.ndarray) -> _Queries:
        """The Euler points as in the pipeline, from the exact mean; of estimators that sample, from the stored one."""
        block = joined([block for block, _ in picked])
        assert block.sigma_next is not None
        before = exact if traits_of(self.manifest.estimator.name).promise is not None else at.mean
        ratio = (block.sigma_next / block.sigma)[:, None]
        z = (before + ratio * (at.z - before)).astype(np.float32)
        mean, is_dense = self._decode([r.mean_next for _, r in picked if r.mean_next is not None])
        moves = block.sigma_next > 0
        return _Queries(
            "mean_next", block.entry[moves], z[moves], block.sigma_next[moves], None, mean[moves], is_dense[moves]
        )

    def _pass(self, parts: list[_Queries], progress: Callable[[int], None]) -> np.ndarray:
        """Recompute the points of all parts together, and keep their errors; their exact means, float64 [B, D]."""
        entry = self._entries(parts)
        exact, slope = np.empty((2, len(entry), self.store.dim))
        points: list[TwinPoint | None] = [None] * len(entry)
        if len(entry) == 0:
            return exact
        z, sigma = (np.concatenate([getattr(part, name) for part in parts]) for name in ("z", "sigma"))
        k = self.manifest.estimator.k if is_judged(self.manifest) else 0
        substeps = self.manifest.recipe.substeps
        if substeps:
            sigma_next = np.concatenate([part.sigma_next for part in parts if part.sigma_next is not None])
            exact = self._populations.path_means(entry, z, sigma, sigma_next, substeps, progress)
        else:
            for entries, rows, found in self._populations.posteriors(entry, z, sigma, k, progress):
                exact[rows] = found.mean
                if k:
                    slope[rows] = found.slope
                for place, row in enumerate(rows.tolist() if k else []):
                    points[row] = TwinPoint(
                        store=self.store,
                        entries=entries,
                        population_mean=found.population_mean,
                        z=z[row].astype(np.float64),
                        sigma=float(sigma[row]),
                        neighbours=found.neighbours[place],
                    )
        start = 0
        for part in parts:
            rows = slice(start, start + len(part))
            self.sigma.setdefault(part.kind, []).append(part.sigma)
            self.mse.setdefault(part.kind, []).append(np.square(part.mean - exact[rows]).mean(1))
            if part.kind != "certified":
                self._judge(part, exact[rows], slope[rows], points[rows])
            start += len(part)
        return exact

    def _judge(self, part: _Queries, exact: np.ndarray, slope: np.ndarray, points: list[TwinPoint | None]) -> None:
        for row, point in enumerate(points):
            if point is None:
                return
            if row + len(self.tests.get(part.kind, ())) == _JUDGED:
                return
            one = StoredMean(
                point=point,
                mean=part.mean[row],
                is_dense=bool(part.is_dense[row]),
                exact=exact[row].copy(),
                slope=slope[row].copy(),
                z_error=_Z_ERROR if part.kind == "mean_next" else 0.0,
            )
            self.pending.append((part.kind, one))

    def _members(self, parts: list[_Queries]) -> int:
        return self._populations.members(self._entries(parts))

    def _entries(self, parts: list[_Queries]) -> np.ndarray:
        return np.concatenate([part.entry for part in parts] or [np.empty(0, np.int64)])

    def _decode(self, means: list[Means]) -> tuple[np.ndarray, np.ndarray]:
        """float32 [n, D], and whether each is dense."""
        mean = np.concatenate([self._flat(one.decode(self.store)) for one in means])
        return mean, np.concatenate([one.count < 0 for one in means])

    def _flat(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1)
