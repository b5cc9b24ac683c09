"""Estimators by name."""

from typing import get_args

from postmean.base.errors import ConfigError
from postmean.contract.manifest import EstimatorName, EstimatorSettings
from postmean.engine.population import Population
from postmean.estimators.auto import Auto
from postmean.estimators.estimate import Estimator
from postmean.estimators.exact import Exact
from postmean.estimators.knn_snis import KnnSnis
from postmean.estimators.knn_stratified import KnnStratified
from postmean.estimators.posterior_mc import PosteriorMC
from postmean.estimators.single_sample import SingleSample
from postmean.estimators.stf import STF
from postmean.neighbours.faiss_search import FaissSearch, FaissSpec
from postmean.neighbours.search import ExactSearch, Search


def make_estimator(
    settings: EstimatorSettings, population: Population, max_support: int, tolerance: float = 1e-6
) -> Estimator:
    """The estimator of these settings over a population.

    Args:
        max_support: most members of a mean that is given as their weighted sum.
        tolerance: mean squared error per dimension that `auto` may cost.
    Raises:
        ConfigError: unknown name, or settings out of range.
    """
    for name in ("k", "n", "m", "nprobe"):
        if getattr(settings, name) < 1:
            raise ConfigError(f"{name}: expected at least 1, got {getattr(settings, name)}")
    match settings.name:
        case "auto":
            return Auto(population, tolerance, max_support)
        case "exact":
            return Exact(population, max_support)
        case "knn-snis":
            return KnnSnis(_search(settings, population), settings.k, settings.n)
        case "knn-stratified":
            return KnnStratified(_search(settings, population), settings.k, settings.m, max_support)
        case "posterior-mc":
            return PosteriorMC(population, settings.n)
        case "stf":
            return STF(population, settings.n)
        case "single-sample":
            return SingleSample(population)
    raise ConfigError(f"estimator {settings.name!r}: expected one of {', '.join(get_args(EstimatorName))}")


def _search(settings: EstimatorSettings, population: Population) -> Search:
    if settings.index == "exact":
        return ExactSearch(population)
    return FaissSearch(population, FaissSpec(settings.index), settings.nprobe)
