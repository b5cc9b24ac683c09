"""Pictures of the means: rows z, the exact mean and estimates of it, columns sigma (Niedoba et al. 2024, Fig. 2, 8)."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from postmean.base.errors import DataError
from postmean.base.files import write_file
from postmean.neighbours.cards import read_card, write_card
from postmean.report.cells import PARTS, digest
from postmean.report.evaluate import Evaluation
from postmean.report.memo_search import MemoSearch
from postmean.report.points import Points, exact_means
from postmean.report.settings import Method

Z, EXACT = "z", "exact mean"


def grid_rows(evaluation: Evaluation, has_network: bool) -> dict[str, Method | None]:
    """Rows of a grid by name: the method of an estimate, None for z and the exact mean."""
    s = evaluation.settings
    rows: dict[str, Method | None] = {
        Z: None,
        EXACT: None,
        "knn-snis": Method(estimator="knn-snis", k=s.k, n=s.n, index="exact"),
        "auto": Method(estimator="auto"),
    }
    return rows | {"network": Method(estimator="network")} if has_network else rows


def make_grids(evaluation: Evaluation, has_network: bool, progress: Callable[[int], None]) -> dict[str, np.ndarray]:
    """The images of all grids: row name -> float32 [images, sigmas, C, H, W].

    Args:
        progress: called with the number of noise levels computed so far.
    """
    settings = replace(evaluation.settings, points=max(2, evaluation.settings.images))
    several = [Points(evaluation.population, settings, sigma) for sigma in settings.sigmas]
    columns: dict[str, list[np.ndarray]] = {}
    for done, (points, exact) in enumerate(zip(several, exact_means(several), strict=True)):
        queries = points.queries(np.arange(len(points)), 1)
        for name, method in grid_rows(evaluation, has_network).items():
            if method is None:
                means = points.z if name == Z else exact
            else:
                estimator = evaluation.estimator(method, lambda m: MemoSearch(evaluation.search(m), settings.k))
                means = estimator.estimate(queries).mean
            columns.setdefault(name, []).append(means[: settings.images].astype(np.float32))
        progress(done + 1)
    shape = evaluation.population.store.image_shape
    return {name: np.stack(means, 1).reshape(settings.images, -1, *shape) for name, means in columns.items()}


class GridStore:
    """The images of the grids on disk, FOLDER/parts/grids-<hash>.npz."""

    def __init__(self, folder: Path, key: dict[str, object]) -> None:
        self._path = folder / PARTS / f"grids-{digest(key)}.npz"

    def read(self) -> dict[str, np.ndarray] | None:
        """The images, None where there are none yet or the file is damaged."""
        try:
            read_card(self._path, "")
        except DataError:
            return None
        with np.load(self._path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def write(self, grids: dict[str, np.ndarray]) -> None:
        """Save the images."""
        buffer = io.BytesIO()
        np.savez(buffer, **grids)  # type: ignore[arg-type]
        write_file(self._path, buffer.getvalue())
        write_card(self._path, {})
