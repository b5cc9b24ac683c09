"""A replica: the training set and its estimators. It turns rows of the plan into records. No Ray in here."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, cached_property
from threading import Lock

import numpy as np
import torch

from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.noisy import noisy
from postmean.contract.plan import ShardPlan, shard_tuples
from postmean.contract.records import Records, pack_means
from postmean.contract.tuples import TupleBlock
from postmean.engine.gpu_errors import gpu_errors
from postmean.engine.population import Population
from postmean.estimators.by_class import ByClass, by_class
from postmean.estimators.choose import make_estimator
from postmean.estimators.estimate import Estimate, Estimator, HeldBy, Queries, assemble, held_at
from postmean.estimators.teacher_means import euler_point_means, path_means

_NOISY_ROWS = 64  # tuples whose noise a thread makes at a time


class Replica:
    """Estimates the records of a run.

    Records do not depend on what the replica did before: every tuple has its own random numbers, and the tuples of a
    shard are always estimated together. Several threads may ask for records at the same time: they take turns at the
    device and do the rest side by side.

    Args:
        population_of: makes a population from (store, flips, label, device).
    """

    def __init__(
        self,
        manifest: Manifest,
        store: ImageStore,
        certified_sigma: np.ndarray | None,
        population_of: Callable[[ImageStore, bool, int | None, str], Population] = Population,
    ) -> None:
        self._manifest, self._store, self._population_of = manifest, store, population_of
        self._certified = certified_sigma
        self._source = manifest.tuple_source()
        self._estimator = cache(self._make_estimator)
        self._device = Lock()

    def load(self) -> None:
        """Load what is not of one class onto a GPU: seconds. On a CPU that takes minutes, which the first shard has.

        Raises:
            ConfigError: the GPU has too little memory, or multiplies wrong.
        """
        manifest = self._manifest
        if manifest.device != "cpu":
            with self._device, gpu_errors():
                if manifest.recipe.conditional:
                    _ = self._by_class
                else:
                    _ = self._estimator(None).population.pixels

    def records(self, row: ShardPlan) -> Records:
        """The records of one shard, in order of their tuples."""
        return self.estimate(shard_tuples(self._source, row, self._manifest.plan_certificate(self._certified)))

    def estimate(self, block: TupleBlock) -> Records:
        """The records of these tuples."""
        manifest, store = self._manifest, self._store
        z = self.noisy(block)
        estimate = self._means(block, z, block.sigma, None, 0)
        shape, recipe = (len(block), *store.image_shape), manifest.recipe
        mean, support, mean_next = estimate.mean, estimate.support, None
        if recipe.substeps:
            mean, support = path_means(block, z, estimate, recipe.substeps, self._means)
        if recipe.solver == "heun":
            mean_next, support_next = euler_point_means(block, z, estimate, self._means)
            mean_next = pack_means(mean_next.reshape(shape), support_next, manifest.shards.max_support)
        is_plain = manifest.shards.self_contained
        return Records(
            tuple_id=block.tuple_id,
            sigma=block.sigma,
            sigma_next=block.sigma_next,
            label=store.label(block.entry),
            mean=pack_means(mean.reshape(shape), support, manifest.shards.max_support),
            mean_next=mean_next,
            ess=estimate.ess.astype(np.float32),
            top_weight=estimate.top_weight.astype(np.float32),
            variance=estimate.variance.astype(np.float32),
            tail_mass=estimate.tail_mass.astype(np.float32),
            support_size=estimate.support_size.astype(np.int32),
            plain={"z": z.reshape(shape), "x": store.pixels(block.entry)} if is_plain else {},
        )

    def noisy(self, block: TupleBlock) -> np.ndarray:
        """z of these tuples, float32 [n, D], made by as many threads as the actor has."""
        z = np.empty((len(block), self._store.dim), np.float32)

        def fill(start: int) -> None:
            rows = np.arange(start, min(start + _NOISY_ROWS, len(block)))
            z[rows] = noisy(self._source, self._store, block.select(rows))[2].reshape(len(rows), -1)

        with ThreadPoolExecutor(self._manifest.threads_per_actor) as pool:
            list(pool.map(fill, range(0, len(block), _NOISY_ROWS)))
        return z

    def _means(
        self,
        block: TupleBlock,
        z: np.ndarray,
        sigma: np.ndarray,
        held_by: HeldBy,
        point: int,
    ) -> Estimate:
        """Estimates at z; supports hold entries of the data set, not members of a population.

        Args:
            held_by: entries that hold the posterior of each tuple at the Euler point; None at z, made from the source.

        Tuples are estimated in order of class and sigma, because similar ones share work. Only this method sorts them.
        """
        label = self._store.label(block.entry) if self._manifest.recipe.conditional else None
        order = np.lexsort((sigma,) if label is None else (sigma, label))
        # copied before the device's turn
        block, z, sigma = block.select(order), z[order], sigma[order]
        sigma_next = block.sigma_next if point == 0 and self._manifest.recipe.solver == "heun" else None
        held_by = held_at(held_by, order)
        label = None if label is None else label[order]
        parts, positions = [], []
        with self._device, gpu_errors():
            left = np.arange(len(block))
            if label is not None and self._by_class is not None:
                estimate, rows = self._by_class.estimate(
                    Queries(
                        torch.from_numpy(z).to(self._manifest.device), sigma.astype(np.float64), block.entry, _no_draws
                    ),
                    label,
                )
                if estimate is not None:
                    parts.append(estimate)
                    positions.append(order[rows])
                    left = np.setdiff1d(left, rows)
            for rows in _runs(left, None if label is None else label[left]):
                estimator = self._estimator(None if label is None else int(label[rows[0]]))
                positions.append(order[rows])
                parts.append(
                    self._estimate_rows(
                        estimator,
                        block.select(rows),
                        z[rows],
                        sigma[rows],
                        held_at(held_by, rows),
                        None if sigma_next is None else sigma_next[rows],
                        point,
                    )
                )
        return assemble(parts, positions)

    def _estimate_rows(
        self,
        estimator: Estimator,
        block: TupleBlock,
        z: np.ndarray,
        sigma: np.ndarray,
        held_by: HeldBy,
        sigma_next: np.ndarray | None,
        point: int,
    ) -> Estimate:
        population = estimator.population
        at_z = held_by is None
        queries = Queries(
            torch.from_numpy(z).to(population.device),
            sigma.astype(np.float64),
            population.member(block.entry),
            lambda row: self._source.draws(int(block.tuple_id[row]), point),
            np.full(len(block), at_z),
            None if at_z else [None if held is None else population.member(held) for held in held_by],
            None if sigma_next is None else sigma_next.astype(np.float64),
        )
        estimate = estimator.estimate(queries)
        support = [None if s is None else (population.entry[s[0]], s[1]) for s in estimate.support]
        return replace(estimate, support=support)

    @cached_property
    def _by_class(self) -> ByClass | None:
        """Classes together, where that is faster."""
        manifest = self._manifest
        if not manifest.recipe.conditional or manifest.recipe.flips or self._population_of is not Population:
            return None
        return by_class(manifest.estimator, self._store, manifest.device, manifest.shards.max_support)

    def _make_estimator(self, label: int | None) -> Estimator:
        manifest = self._manifest
        if label is not None and self._by_class is not None:
            population = self._by_class.blocks.population(label)
        else:
            population = self._population_of(self._store, manifest.recipe.flips, label, manifest.device)
        max_support = int(population.at_hand_with_source(manifest.shards.max_support))
        return make_estimator(manifest.estimator, population, max_support)


def _runs(rows: np.ndarray, label: np.ndarray | None) -> list[np.ndarray]:
    """The rows in runs of equal label, in order; all of them without labels."""
    if len(rows) == 0:
        return []
    return [rows] if label is None else np.split(rows, np.flatnonzero(np.diff(label)) + 1)


def _no_draws(row: int) -> np.random.Generator:
    raise AssertionError("an exact mean draws no random numbers")
