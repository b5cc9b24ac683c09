"""Searches by the name of their index."""

from postmean.engine.population import Population
from postmean.neighbours.faiss_search import FaissSearch, FaissSpec
from postmean.neighbours.search import ExactSearch, Search


def make_search(population: Population, index: str, nprobe: int) -> Search:
    """The search of a population: exact, or by a FAISS index that `postmean index` built.

    Args:
        index: exact, flat, sq8, ivf<lists>-flat or ivf<lists>-sq8.
        nprobe: partitions searched of an inverted file.
    Raises:
        ConfigError: no index of this kind.
        DataError: the index was not built, or from other images.
    """
    return ExactSearch(population) if index == "exact" else FaissSearch(population, FaissSpec(index), nprobe)
