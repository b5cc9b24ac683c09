"""The populations of a run's posteriors, and exact posteriors over them in float64."""

from collections.abc import Callable, Iterator

import numpy as np

from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.teacher_path import path_mean
from postmean.estimators.float64 import ExactPosterior, exact_posterior

Progress = Callable[[int], None]
"""Called with the number of members read since the last call."""


class ExactPopulations:
    """All entries of the data set, or those of each class in a conditional run."""

    def __init__(self, manifest: Manifest, store: ImageStore) -> None:
        self._store = store
        self._entries = np.arange(manifest.tuple_source().entries)
        self._label = store.label(self._entries) if manifest.recipe.conditional else None

    def of(self, entry: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """(entries of the population, rows of the queries over it) for queries made from these entries."""
        if self._label is None:
            return [(self._entries, np.arange(len(entry)))] if len(entry) else []
        label = self._label[entry]
        return [(np.flatnonzero(self._label == value), np.flatnonzero(label == value)) for value in np.unique(label)]

    def members(self, entry: np.ndarray) -> int:
        """Members of the populations of these queries."""
        return sum(len(entries) for entries, _ in self.of(entry))

    def posteriors(
        self, entry: np.ndarray, z: np.ndarray, sigma: np.ndarray, k: int, progress: Progress
    ) -> Iterator[tuple[np.ndarray, np.ndarray, ExactPosterior]]:
        """(entries of the population, rows of the queries over it, their posteriors with k neighbours)."""
        for entries, rows in self.of(entry):
            seen = 0

            def read(done: int) -> None:
                nonlocal seen
                progress(done - seen)
                seen = done

            yield entries, rows, exact_posterior(self._store, entries, z[rows], sigma[rows], k, entry[rows], read)

    def path_means(
        self,
        entry: np.ndarray,
        z: np.ndarray,
        sigma: np.ndarray,
        sigma_next: np.ndarray,
        substeps: int,
        progress: Progress,
    ) -> np.ndarray:
        """Averages of the exact means on the way from z to the teacher points, float64 [B, D]: see `teacher_path`."""

        def mean_at(rows: np.ndarray, point: np.ndarray, level: np.ndarray, number: int) -> np.ndarray:
            mean = np.empty_like(point)
            for _, here, found in self.posteriors(entry[rows], point, level, 0, progress):
                mean[here] = found.mean
            return mean

        return path_mean(z, sigma, sigma_next, substeps, mean_at)[0]
