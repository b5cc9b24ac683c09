"""The memory that a plan counts for an index is what it takes: its file, mapped once for all actors of a machine."""

from pathlib import Path

import numpy as np
import pytest

from postmean.engine.population import Population
from postmean.neighbours.faiss_search import FaissSearch, build
from postmean.neighbours.faiss_spec import FaissSpec
from tests.support.posterior_examples import images_x, queries_from, random_images, store_of


def own_bytes() -> int:
    """Memory of this process that no file backs."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


@pytest.mark.parametrize("name", ["flat", "sq8", "ivf4-flat", "ivf4-sq8"])
def test_an_index_is_mapped_and_as_large_as_planned(tmp_path: Path, name: str) -> None:
    images = random_images(1000, (3, 64, 64))
    store, spec = store_of(tmp_path / "store", images), FaissSpec(name)
    path, planned = build(store, spec, False), spec.size(1000, store.dim)
    assert path.stat().st_size == pytest.approx(planned, rel=0.01)
    queries = queries_from(images_x(images[:20]), 0.5, 20)
    population = Population(store, False)
    FaissSearch(population, spec, 4)  # the first one also loads FAISS and starts its threads
    before = own_bytes()
    search = FaissSearch(population, spec, 4)
    assert str(path) in Path("/proc/self/maps").read_text()
    assert own_bytes() - before < planned / 2
    assert np.array_equal(search.search(queries.z, queries.sigma, 1).member[:, 0], queries.source)
