"""What every neighbour search must do: find the neighbours and distances of brute force, or say how many it found."""

from collections.abc import Iterator

import numpy as np
import pytest

from postmean.base.errors import ConfigError, DataError
from postmean.contract.image_store import ImageStore
from postmean.engine.population import Population
from postmean.neighbours.faiss_search import FaissSearch, build, index_path
from postmean.neighbours.faiss_spec import FaissSpec
from postmean.neighbours.search import ExactSearch, Search
from tests.support.cuda_stand_in import cuda_stand_in
from tests.support.faiss_gpu_stand_in import faiss_gpu_stand_in
from tests.support.posterior_examples import (
    constant_images,
    estimator_of,
    exact_duplicates,
    images_x,
    near_duplicates,
    posteriors,
    queries_at,
    queries_from,
    random_images,
    store_of,
)

SEARCHES = ("exact", "flat", "sq8", "ivf4-flat", "ivf4-sq8")
FAISS = SEARCHES[1:]
SIGMAS = (0.002, 0.05, 1.0, 6.0, 80.0)
DATA_SETS = {
    "random": lambda: random_images(90, (3, 4, 5)),
    "D = 7": lambda: random_images(60, (1, 1, 7)),
    "D = 192": lambda: random_images(50, (3, 8, 8)),
    "exact duplicates": exact_duplicates,
    "near duplicates": near_duplicates,
    "constant images": constant_images,
}


ON_GPUS = tuple(f"{name} on a GPU" for name in ("flat", "ivf4-flat", "ivf4-sq8"))
"""On the stand-ins for CUDA and for faiss-gpu-cuvs; tests/gpu has the exact search"""
CASES = [(name, data) for name in SEARCHES for data in DATA_SETS]
CASES += [(name, data) for name in ON_GPUS for data in ("D = 7", "near duplicates")]


@pytest.fixture(autouse=True)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-ins, for searches on a GPU."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is None or callspec.params.get("name") not in ON_GPUS:
        yield
    else:
        faiss_gpu_stand_in(monkeypatch, cuvs=True)
        with cuda_stand_in(monkeypatch):
            yield


def search_of(name: str, store: ImageStore, flips: bool = False, nprobe: int = 4) -> Search:
    """A search; builds its index if there is none."""
    population = Population(store, flips, device="cuda" if name in ON_GPUS else "cpu")
    name = name.removesuffix(" on a GPU")
    if name == "exact":
        return ExactSearch(population)
    spec = FaissSpec(name)
    if not index_path(store, spec, flips).exists():
        build(store, spec, flips)
    return FaissSearch(population, spec, nprobe)


@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
@pytest.mark.parametrize(("name", "data"), CASES)
def test_neighbours_and_distances_are_those_of_a_brute_force(tmp_path, name, data, flips):
    pixels = DATA_SETS[data]()
    x = images_x(pixels, flips)
    search = search_of(name, store_of(tmp_path / "store", pixels), flips)
    for sigma in SIGMAS:
        queries = queries_from(x, sigma, 25)  # FAISS uses another algorithm from 20 queries on
        z_BD = queries.z.to(search.population.device)
        for k in (1, 12, len(x), len(x) + 9):
            neighbours = search.search(z_BD, queries.sigma, k)
            capped = min(k, len(x))
            assert neighbours.member.shape == neighbours.distance2.shape == (25, capped)
            assert np.array_equal(neighbours.count, np.full(25, capped))
            assert (np.diff(neighbours.distance2, axis=1) >= 0).all()
            for row, z in enumerate(queries.z.numpy().astype(np.float64)):
                brute = np.square(z - x).sum(1)
                member = neighbours.member[row]
                assert len(np.unique(member)) == capped
                # errors of distances are measured by their effect on the log-weight
                own = (neighbours.distance2[row] - brute[member]) / (2 * sigma**2)
                kth = (np.sort(brute)[:capped] - brute[member]) / (2 * sigma**2)
                heavy = brute[member] - brute.min() <= 2 * sigma**2 * 30
                assert np.abs(own[heavy]).max() < 2e-2, (sigma, k)
                assert np.abs(kth[heavy]).max() < 2e-2, (sigma, k)
                # the others are correct to float32
                scale = np.square(z).sum() + len(z)
                assert np.abs(neighbours.distance2[row] - brute[member]).max() < 3e-5 * scale
                assert np.abs(np.sort(brute)[:capped] - brute[member]).max() < 3e-5 * scale


@pytest.mark.parametrize("name", SEARCHES + ON_GPUS)
def test_one_step_near_duplicates_are_told_apart_at_small_sigma(tmp_path, name):
    """Values of |z - x|^2 differ by 6e-5 in 1 000: with float32 products alone, any of them could come first."""
    rng = np.random.default_rng(0)
    pixels = np.repeat(rng.integers(60, 200, (2, 3, 32, 32)), 20, axis=0).astype(np.uint8)
    flat = pixels.reshape(40, -1)
    flat[np.arange(40), rng.choice(3072, 40, replace=False)] += 1
    x = images_x(pixels)
    queries = queries_from(x, 0.002, 25)
    search = search_of(name, store_of(tmp_path / "store", pixels))
    neighbours = search.search(queries.z.to(search.population.device), queries.sigma, 20)
    for row, z in enumerate(queries.z.numpy().astype(np.float64)):
        brute = np.square(z - x).sum(1)
        assert np.array_equal(neighbours.member[row], np.argsort(brute)[:20])
        np.testing.assert_allclose(neighbours.distance2[row], np.sort(brute)[:20], rtol=1e-9)


@pytest.mark.parametrize("name", SEARCHES)
def test_knn_estimators_are_right_with_every_search(tmp_path, name):
    pixels = random_images(90, (3, 4, 5))
    x = images_x(pixels)
    store = store_of(tmp_path / "store", pixels)
    search_of(name, store)
    for sigma in (0.002, 2.0, 80.0):
        queries = queries_from(x, sigma, 8)
        oracle = posteriors(x, queries)
        for estimator, draws in (("knn-snis", "n"), ("knn-stratified", "m")):
            settings = {"k": 30, draws: 512, "index": name, "nprobe": 4}
            estimate = estimator_of(estimator, Population(store, False), **settings).estimate(queries)
            mse = np.square(estimate.mean - np.stack([o.mean for o in oracle])).mean()
            assert mse <= 1e-7 + 4 * np.mean([o.snis_trace(o.proposal(30)) for o in oracle]) / 512 / 60


@pytest.mark.parametrize("name", ["ivf8-flat", "ivf8-sq8"])
def test_inverted_file_with_one_probe_says_how_many_it_found_and_padding_has_no_weight(tmp_path, name):
    pixels = random_images(80, (1, 2, 3))
    x = images_x(pixels)
    store = store_of(tmp_path / "store", pixels)
    search = search_of(name, store, nprobe=1)
    assert not search.is_exact
    for sigma in SIGMAS:
        queries = queries_from(x, sigma, 30)
        neighbours = search.search(queries.z, queries.sigma, 60)
        count = neighbours.count
        assert ((count >= 1) & (count < 60)).all()
        for row in range(30):
            assert (neighbours.member[row, : count[row]] >= 0).all()
            assert (neighbours.member[row, count[row] :] == -1).all()
            assert np.isinf(neighbours.distance2[row, count[row] :]).all()
            assert np.isfinite(neighbours.distance2[row, : count[row]]).all()
        oracle = np.stack([o.mean for o in posteriors(x, queries)])
        for estimator in ("knn-snis", "knn-stratified"):
            settings = {"k": 60, "n": 2048, "m": 2048, "index": name}
            estimate = estimator_of(estimator, Population(store, False), **settings).estimate(queries)
            assert np.isfinite(estimate.mean).all()
            assert np.array_equal(estimate.support_size, count)
            for pair in estimate.support:
                assert pair is None or pair[0].min() >= 0
            # consistent whatever the search found: every member can be drawn
            if sigma >= 1:
                assert np.square(estimate.mean - oracle).mean() < 0.02


@pytest.mark.parametrize("estimator", ["knn-snis", "knn-stratified"])
def test_nearest_image_that_an_inverted_file_missed_does_not_overflow_the_weights(tmp_path, estimator):
    """Two lists, with pixels 0..10 and 60..160: at 56 the probe finds the first, whose weights are far smaller."""
    pixels = np.concatenate([np.tile(np.arange(0, 11), 30), np.arange(60, 161)]).astype(np.uint8)[:, None, None, None]
    store = store_of(tmp_path / "store", pixels)
    search_of("ivf2-flat", store, nprobe=1)
    settings = {"k": 50, "n": 4000, "m": 4000, "index": "ivf2-flat", "nprobe": 1}
    queries = queries_at(np.full((20, 1), 56 / 127.5 - 1), 0.002)
    estimate = estimator_of(estimator, Population(store, False), **settings).estimate(queries)
    assert np.isfinite(estimate.mean).all()
    for column in (estimate.ess, estimate.top_weight, estimate.variance, estimate.tail_mass):
        assert np.isfinite(column).all()
    if estimator == "knn-stratified":  # its uniform draws hit the missed image, which has e^5000 times the weight
        assert np.allclose(estimate.mean, 60 / 127.5 - 1, atol=1e-3)
        assert np.allclose(estimate.tail_mass, 1)


@pytest.mark.parametrize("estimator", ["knn-snis", "knn-stratified"])
def test_inverted_file_that_finds_nothing_leaves_a_uniform_proposal(tmp_path, estimator):
    """More lists than distinct images: some lists are empty, and probing one of these finds nothing."""
    pixels = np.repeat(np.array([0, 100, 200], np.uint8), 30)[:, None, None, None]
    x = images_x(pixels)
    store = store_of(tmp_path / "store", pixels)
    search_of("ivf30-flat", store, nprobe=1)
    z = np.linspace(-1.5, 1.5, 60)[:, None]
    queries = queries_at(z, 0.5)
    settings = {"k": 30, "n": 4000, "m": 4000, "index": "ivf30-flat", "nprobe": 1}
    estimate = estimator_of(estimator, Population(store, False), **settings).estimate(queries)
    assert (estimate.support_size == 0).any()
    oracle = np.stack([o.mean for o in posteriors(x, queries)])
    assert np.abs(estimate.mean - oracle).max() < 0.1


@pytest.mark.parametrize("name", FAISS)
def test_missing_wrong_or_damaged_index_is_refused_with_the_remedy(tmp_path, name):
    spec = FaissSpec(name)
    store = store_of(tmp_path / "store", random_images(60))
    remedy = f"postmean index {store.path} --index {name}"

    def refused() -> str:
        with pytest.raises(DataError) as error:
            FaissSearch(Population(store, False), spec, 4)
        assert remedy in str(error.value)
        return str(error.value)

    assert "no such index" in refused()
    path = build(store, spec, False)
    FaissSearch(Population(store, False), spec, 4)
    with pytest.raises(DataError, match="--flips"):
        FaissSearch(Population(store, True), spec, 4)

    whole, header = path.read_bytes(), path.with_suffix(".json").read_bytes()
    for damage in (b"", whole[:7], whole[: len(whole) // 2], whole[:-1], b"not an index", b"\0" * len(whole)):
        path.write_bytes(damage)
        assert "damaged" in refused()
    path.write_bytes(whole)
    for damage in (b"", b"{", b"[]", b"null", b"\xff\xfe"):
        path.with_suffix(".json").write_bytes(damage)
        refused()
    path.with_suffix(".json").unlink()
    refused()
    path.with_suffix(".json").write_bytes(header)

    other = store_of(tmp_path / "other", random_images(60, seed=9))
    other_path = build(other, spec, False)
    path.write_bytes(other_path.read_bytes())
    path.with_suffix(".json").write_bytes(other_path.with_suffix(".json").read_bytes())
    assert "other images" in refused()

    same_images = build(store, FaissSpec("sq8" if name == "flat" else "flat"), False)
    for suffix in (".faiss", ".json"):
        path.with_suffix(suffix).write_bytes(same_images.with_suffix(suffix).read_bytes())
    assert "of another kind" in refused()


@pytest.mark.parametrize("name", FAISS)
def test_index_is_the_same_bytes_when_built_again(tmp_path, name):
    store = store_of(tmp_path / "store", random_images(60))
    first = build(store, FaissSpec(name), False).read_bytes()
    assert build(store, FaissSpec(name), False).read_bytes() == first


def test_conditional_population_and_too_many_lists_are_refused(tmp_path):
    store = store_of(tmp_path / "store", random_images(10), np.arange(10) % 2)
    with pytest.raises(ConfigError, match="--index exact"):
        FaissSearch(Population(store, False, label=1), FaissSpec("flat"), 1)
    with pytest.raises(ConfigError, match="ask for fewer"):
        build(store, FaissSpec("ivf11-flat"), False)
    for name in ("hnsw", "ivf-flat", "ivf0-flat", "sq4", "ivf4", "flat "):
        with pytest.raises(ConfigError, match="expected exact"):
            FaissSpec(name)
