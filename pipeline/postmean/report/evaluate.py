"""Evaluation of the methods of a report: repeated estimates at the same points against the exact means."""

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from itertools import groupby

import numpy as np

from postmean.contract.image_store import ImageStore
from postmean.contract.settings import EstimatorSettings
from postmean.engine.population import Population
from postmean.estimators.choose import make_estimator
from postmean.estimators.estimate import Estimator
from postmean.estimators.knn_snis import KnnSnis
from postmean.estimators.knn_stratified import KnnStratified
from postmean.neighbours.choose_search import make_search
from postmean.neighbours.search import Search
from postmean.report.cells import Cell, CellStore
from postmean.report.decompose import Errors, decompose
from postmean.report.memo_search import MemoSearch
from postmean.report.points import Points, exact_means
from postmean.report.settings import Method, ReportSettings

_ROWS = 256  # estimates at a time
_SHARED_ROWS = 512  # points whose exact means are computed in one pass


class Evaluation:
    """Everything that is loaded once for a report.

    Args:
        network: a trained network as an estimator; its `estimate` gives D(z, sigma).
    """

    def __init__(self, store: ImageStore, settings: ReportSettings, network: Estimator | None = None) -> None:
        self.settings = settings
        self.population = Population(store, settings.flips, device=settings.device)
        self._network = network
        self._search = cache(self._make_search)
        self._plain = cache(self._make_plain)

    def cells(self, wanted: Sequence[tuple[Method, float]], keep: CellStore, progress: Callable[[int], None]) -> None:
        """Compute these cells and save each at once.

        Args:
            progress: called with the number of cells computed so far.
        """
        by_sigma = {
            sigma: [method for method, _ in group]
            for sigma, group in groupby(sorted(wanted, key=lambda pair: pair[1]), key=lambda pair: pair[1])
        }
        together = max(1, _SHARED_ROWS // self.settings.points)
        sigmas = list(by_sigma)
        done = 0
        for start in range(0, len(sigmas), together):
            several = [Points(self.population, self.settings, s) for s in sigmas[start : start + together]]
            for points, exact in zip(several, exact_means(several), strict=True):
                level = _Level(self, points, exact)
                for method in by_sigma[points.sigma]:
                    keep.write(level.cell(method))
                    done += 1
                    progress(done)

    def estimator(self, method: Method, memo: Callable[[Method], Search]) -> Estimator:
        """The estimator of a method; `memo` gives the search of the knn estimators."""
        match method.estimator:
            case "knn-snis":
                return KnnSnis(memo(method), method.k or 0, method.n or 0)
            case "knn-stratified":
                return KnnStratified(memo(method), method.k or 0, method.m or 0)
            case "network":
                assert self._network is not None
                return self._network
        return self._plain(method)

    def search(self, method: Method) -> Search:
        """The search of a knn estimator, loaded once."""
        return self._search(method.index, method.nprobe)

    def most(self, method: Method) -> int:
        """Largest k of any method with the same search."""
        s = self.settings
        return max(s.k, *s.sweep_k) if method.index == "exact" and s.sweep_k else s.k

    def _make_search(self, index: str, nprobe: int | None) -> Search:
        return make_search(self.population, index, nprobe or 1)

    def _make_plain(self, method: Method) -> Estimator:
        assert method.estimator != "network"
        settings = EstimatorSettings(name=method.estimator, n=method.n or 1, tolerance=self.settings.tolerance)
        return make_estimator(settings, self.population, max_support=256)


class _Level:
    """One sigma: its points, their exact means [P, D], and the searches at them."""

    def __init__(self, evaluation: Evaluation, points: Points, exact: np.ndarray) -> None:
        self._evaluation, self._points, self._exact = evaluation, points, exact
        self._memo = cache(self._make_memo)
        self._nearest = cache(self._make_nearest)

    @cached_property
    def _posterior_variance(self) -> float:
        return float(self._points.variance.mean())

    def cell(self, method: Method) -> Cell:
        points = self._points
        estimator = self._evaluation.estimator(method, lambda m: self._memo(m.index, m.nprobe))
        repeats = 1 if method.is_deterministic else self._evaluation.settings.repeats
        step = max(1, _ROWS // repeats)
        parts: list[Errors] = []
        tail: list[np.ndarray] = []
        for start in range(0, len(points), step):
            rows = np.arange(start, min(start + step, len(points)))
            estimate = estimator.estimate(points.queries(rows, repeats, method.source or "fixed"))
            means = estimate.mean.reshape(len(rows), repeats, -1)
            if method.beta is not None:
                x = points.population.x(points.source[rows]).cpu().numpy()[:, None]
                means = x + np.float32(method.beta) * (means - x)
            parts.append(decompose(means, self._exact[rows]))
            tail.append(estimate.tail_mass)
        numbers: dict[str, float | None] = {"posterior_variance": self._posterior_variance}
        for name in ("mse", "bias2", "variance"):
            values = np.concatenate([getattr(part, name) for part in parts])
            numbers[name] = float(values.mean())
            numbers[f"{name}_se"] = float(values.std(ddof=1) / np.sqrt(len(values)))
        if method.k is not None:
            numbers |= self._search_quality(method, method.k)
            numbers["estimated_tail"] = float(np.concatenate(tail).mean())
        return Cell(method=method, sigma=points.sigma, **numbers)  # type: ignore[arg-type]

    def _search_quality(self, method: Method, k: int) -> dict[str, float]:
        member, missed = self._nearest(method.index, method.nprobe)
        exact, _ = self._nearest("exact", None)
        k = min(k, len(self._points.population))
        pairs = zip(member[:, :k], exact[:, :k], strict=True)
        return {
            "neighbours_found": float((member[:, :k] >= 0).sum(1).mean()),
            "recall": float(np.mean([np.isin(nearest, ours).mean() for ours, nearest in pairs])),
            "missed_mass": float(missed[:, k].mean()),
        }

    def _make_nearest(self, index: str, nprobe: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Neighbours of each point, int64 [P, most], and the posterior mass beyond the first 0 .. most of them."""
        points, memo = self._points, self._memo(index, nprobe)
        queries = points.queries(np.arange(len(points)), 1)
        neighbours = memo.search(queries.z, queries.sigma, memo.most)
        return neighbours.member, points.missed_mass(neighbours)

    def _make_memo(self, index: str, nprobe: int | None) -> MemoSearch:
        method = Method(estimator="knn-snis", index=index, nprobe=nprobe)
        return MemoSearch(self._evaluation.search(method), self._evaluation.most(method))
