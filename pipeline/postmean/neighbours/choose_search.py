"""Searches by index name."""

from postmean.engine.population import Population
from postmean.neighbours.faiss_search import FaissSearch
from postmean.neighbours.faiss_spec import FaissSpec
from postmean.neighbours.search import ExactSearch, Search


def make_search(population: Population, index: str, nprobe: int) -> Search:
    """The search over a population: exact, or by a FAISS index built with `postmean index`.

    Args:
        index: exact, flat, sq8, ivf<lists>-flat or ivf<lists>-sq8.
        nprobe: partitions of an inverted file to search.
    Raises:
        ConfigError: the index name is unknown, or the index cannot be used here.
        DataError: the index was not built, is damaged, or was built from other images.
    """
    return ExactSearch(population) if index == "exact" else FaissSearch(population, FaissSpec(index), nprobe)
