"""The certificate against the measured error of taking the source image as the mean, in brute-force float64."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.special import expit

from postmean.contract.image_store import ImageStore
from postmean.neighbours.certificate import certified_sigma
from postmean.neighbours.distance_table import bound as table_bound
from postmean.neighbours.self_join import self_join
from tests.support.posterior_examples import DATA_SETS, images_x, random_images, store_of

TOLERANCES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1)


def source_errors(x_MD: np.ndarray, i: int, sigma: float, draws: int, seed: int = 0) -> np.ndarray:
    """|mean - x_i|^2 at z = x_i + sigma eps, for each draw of eps."""
    eps = np.random.default_rng([seed, i]).standard_normal((draws, x_MD.shape[1]))
    delta = x_MD - x_MD[i]
    # |z - x_j|^2 - |z - x_i|^2 = |delta_j|^2 - 2 sigma eps.delta_j, without cancellation
    log_odds = -(np.square(delta).sum(1) - 2 * sigma * eps @ delta.T) / (2 * sigma**2)
    p = np.exp(log_odds - log_odds.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return np.square(p @ delta).sum(1)


def assert_within(x_MD: np.ndarray, i: int, sigma: float, tolerance: float, draws: int) -> None:
    """The measured mean squared error is not significantly above the tolerance."""
    errors = source_errors(x_MD, i, sigma, draws) / x_MD.shape[1]
    assert errors.mean() <= tolerance + 4 * errors.std() / np.sqrt(draws), (i, sigma, tolerance)


@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
@pytest.mark.parametrize("data", DATA_SETS)
def test_error_of_the_source_image_is_within_the_tolerance(tmp_path, data, flips):
    """A grid of tolerances gives a grid of sigmas: at each, the bound exceeds the measured error."""
    pixels = DATA_SETS[data]()
    x = images_x(pixels, flips)
    store = store_of(tmp_path / "store", pixels)
    for nearest in (1, 64):
        join = self_join(store, flips, False, nearest)
        for tolerance in TOLERANCES:
            certified = certified_sigma(join, tolerance, store.dim)
            for i in range(0, len(pixels), 13):
                if 0 < certified[i] < np.inf:
                    assert_within(x, i, float(certified[i]), tolerance, 300)


@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
def test_conditional_certificate_is_about_the_images_of_the_class(tmp_path, flips):
    pixels = random_images(40, (1, 3, 3))
    labels = np.arange(40) % 4
    labels[labels == 3] = 2
    labels[5] = 3  # the only image of its class
    store = store_of(tmp_path / "store", pixels, labels)
    join = self_join(store, flips, True)
    for tolerance in TOLERANCES:
        certified = certified_sigma(join, tolerance, store.dim)
        assert (certified[labels == 3] == np.inf).all() == (not flips)
        for i in range(0, 40, 5):
            if np.isfinite(certified[i]):
                chosen = np.flatnonzero(labels == labels[i])
                own = int(np.searchsorted(chosen, i))
                assert_within(images_x(pixels, flips, chosen), own, float(certified[i]), tolerance, 500)


def test_flipped_source_has_the_error_of_the_image(tmp_path):
    """certified_sigma belongs to the image; a tuple may be made from its mirror image."""
    pixels = random_images(20, (1, 3, 3))
    store = store_of(tmp_path / "store", pixels)
    certified = certified_sigma(self_join(store, True, False), 1e-3, store.dim)
    x = images_x(pixels, True)
    for i in range(20):
        assert_within(x, i + 20, float(certified[i]), 1e-3, 1000)


@pytest.mark.parametrize("steps", [1, 3, 30, 255])
@pytest.mark.parametrize("tolerance", [1e-7, 1e-4])
def test_two_images_by_quadrature(tmp_path, steps, tolerance):
    """E p^2 D^2 is an integral over one dimension: below the tolerance, above it at a little larger sigma."""
    pixels = np.zeros((2, 1, 2, 2), np.uint8)
    pixels[1, 0, 0, 0] = steps
    store = store_of(tmp_path / "store", pixels)
    sigma = float(certified_sigma(self_join(store, False, False), tolerance, 4)[0])
    distance = steps / 127.5

    def error(s: float) -> float:
        def integrand(e: float) -> float:
            p = expit(-(distance**2) / (2 * s**2) + e * distance / s)
            return float(np.exp(-(e**2) / 2) / np.sqrt(2 * np.pi) * p**2 * distance**2 / 4)

        return quad(integrand, -12, 40, points=[distance / (2 * s)], limit=400)[0]

    if distance**2 / 16 < tolerance:  # the largest possible error at any sigma
        assert sigma > 100
        return
    assert error(sigma) <= tolerance
    assert error(1.15 * sigma) > tolerance


@pytest.mark.parametrize("data", DATA_SETS)
def test_few_neighbours_never_certify_more_than_all(tmp_path, data):
    pixels = DATA_SETS[data]()
    store = store_of(tmp_path / "store", pixels)
    for tolerance in TOLERANCES:
        exact = certified_sigma(self_join(store, False, False, 10**6), tolerance, store.dim)
        below = np.zeros(len(pixels))
        for nearest in (1, 2, 5, 17):
            join = self_join(store, False, False, nearest)
            few = certified_sigma(join, tolerance, store.dim)
            assert (few <= exact).all()
            without_table = replace(join, table=np.full_like(join.table, np.inf))
            nearest_alone = certified_sigma(without_table, tolerance, store.dim)
            assert (few >= nearest_alone).all()
            assert (nearest_alone >= below).all()
            below = nearest_alone


@pytest.mark.parametrize("data", DATA_SETS)
@pytest.mark.parametrize("nearest", [1, 4, 16])
def test_tabulated_sum_is_at_least_the_sum_over_all_and_within_the_width_of_its_bins(tmp_path, data, nearest):
    pixels = DATA_SETS[data]()
    store = store_of(tmp_path / "store", pixels)
    join = self_join(store, False, False, nearest)
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    squared = np.square(flat[:, None] - flat[None]).sum(2)
    kth = join.distance2[:, -1].astype(np.float64)
    for t in (6.0, 7.3, 11.5, 20.9, 32.0):
        sigma2 = kth / (8 * t)
        terms = squared * np.exp(-squared / np.maximum(8 * sigma2[:, None], 1e-300))
        np.fill_diagonal(terms, 0.0)
        exact = terms.sum(1) / 2
        above = table_bound(join.table, kth, sigma2)
        reached = (kth > 0) & np.isfinite(above) & (exact > 1e-290)
        assert (above[reached] >= exact[reached]).all()
        # a bin is 3.1 % wide, so the exponent of a term is known to 3.1 %, and that of the sum to a little more
        assert (
            np.log(above[reached] / exact[reached]) <= 0.04 * (t + 6) * np.maximum(1, squared.max() / kth[reached])
        ).all()


def test_rises_with_the_tolerance_and_falls_with_more_images(tmp_path):
    pixels = random_images(40)
    store, fewer = store_of(tmp_path / "store", pixels), store_of(tmp_path / "fewer", pixels[:20])
    certified = [certified_sigma(self_join(store, False, False), t, store.dim) for t in TOLERANCES]
    assert (np.diff(certified, axis=0) > 0).all()
    with_fewer = certified_sigma(self_join(fewer, False, False), 1e-6, store.dim)
    assert (with_fewer >= certified[1][:20]).all()
    assert (certified_sigma(self_join(store, True, False), 1e-6, store.dim) <= certified[1]).all()


def test_image_alone_is_certified_at_every_sigma(tmp_path):
    store = store_of(tmp_path / "store", random_images(1))
    assert certified_sigma(self_join(store, False, False), 1e-6, store.dim).tolist() == [np.inf]


def test_near_duplicates_keep_the_certified_sigma_of_both_low(tmp_path):
    pixels = random_images(12, (3, 8, 8))
    pixels[1] = pixels[0]
    pixels[1, 0, 0, :4] ^= 7
    pixels[3] = pixels[2]  # exact duplicates: whichever made z, the mean is the same image
    store = store_of(tmp_path / "store", pixels)
    certified = certified_sigma(self_join(store, False, False), 1e-6, store.dim)
    assert (certified[:2] < 0.2 * certified[4:].min()).all()
    assert (certified[2:4] > 0.8 * certified[4:].min()).all()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    pixels=arrays(
        np.uint8,
        st.tuples(st.integers(2, 8), st.just(1), st.integers(1, 2), st.integers(1, 3)),
        elements=st.integers(0, 255) | st.integers(126, 129),
    ),
    flips=st.booleans(),
    nearest=st.integers(1, 16),
    tolerance=st.sampled_from([1e-6, 1e-4, 1e-3, 1e-2, 0.05]),
)
@example(pixels=np.full((8, 1, 1, 1), 7, np.uint8), flips=False, nearest=1, tolerance=1e-3)
@example(pixels=np.array([0] + [255] * 7, np.uint8).reshape(8, 1, 1, 1), flips=False, nearest=1, tolerance=1e-2)
@example(
    pixels=np.array([0, 1, 2, 3, 4, 5, 6, 255], np.uint8).reshape(8, 1, 1, 1), flips=True, nearest=2, tolerance=1e-6
)
def test_no_set_of_images_breaks_the_certificate(tmp_path_factory, pixels, flips, nearest, tolerance):
    store = store_of(tmp_path_factory.mktemp("sets") / "store", pixels)
    x = images_x(pixels, flips)
    certified = certified_sigma(self_join(store, flips, False, nearest), tolerance, store.dim)
    assert not np.isnan(certified).any()
    for i, sigma in enumerate(certified):
        if 0 < sigma < np.inf:
            assert_within(x, i, float(sigma), tolerance, 400)
            assert_within(x, i, float(sigma) * 0.7, tolerance, 400)


@pytest.mark.slow
def test_error_on_real_images_is_within_the_tolerance(tmp_path, shared_data):
    """200 of 12 500 CIFAR-10 images at their certified sigma, for tolerances up to an open posterior."""
    from postmean.importers.config import ImportConfig
    from postmean.importers.run import import_images

    import_images(ImportConfig(source=shared_data / "cifar10-jpeg.tar.xz", store=tmp_path / "store", split="train"))
    whole = ImageStore.open(tmp_path / "store")
    store = store_of(tmp_path / "part", whole.images[::4])
    chosen = np.random.default_rng(0).choice(len(store), 200, replace=False)
    pixels = np.asarray(store.images).reshape(len(store), -1)
    x = pixels.astype(np.float32) / np.float32(127.5) - 1

    def mirrored(rows: np.ndarray) -> np.ndarray:
        return rows.reshape(-1, 3, 32, 32)[..., ::-1].reshape(rows.shape)

    def distance2(rows: np.ndarray) -> np.ndarray:
        """|x_j - row|^2 of all images, exact integers in float64, [N, rows]."""
        rows = rows.astype(np.float64)
        parts = []
        for start in range(0, len(pixels), 5000):
            part = pixels[start : start + 5000].astype(np.float64)
            parts.append(np.square(part).sum(1)[:, None] - 2 * part @ rows.T + np.square(rows).sum(1))
        return np.concatenate(parts) / 127.5**2

    # distance to a mirrored image = distance of the mirrored source; its projection = that on mirrored noise
    distances = np.concatenate([distance2(pixels[chosen]), distance2(mirrored(pixels[chosen]))])
    noise = [np.random.default_rng([1, i]).standard_normal((8, store.dim)).astype(np.float32) for i in chosen]
    projections = [
        np.concatenate([x @ eps.T, x @ mirrored(eps).T]) - x[i] @ eps.T for i, eps in zip(chosen, noise, strict=True)
    ]
    for flips in (False, True):
        join = self_join(store, flips, False)
        entries = len(store) * (2 if flips else 1)
        for tolerance in (1e-6, 1e-4, 1e-2):
            errors = []
            for column, sigma in enumerate(certified_sigma(join, tolerance, store.dim)[chosen].astype(np.float64)):
                if sigma == 0:
                    continue
                d2 = distances[:entries, column, None]
                log_odds = -d2 / (2 * sigma**2) + projections[column][:entries].astype(np.float64) / sigma
                p = np.exp(log_odds - log_odds.max(0))
                p /= p.sum(0)
                # by the triangle inequality at least |mean - x_i|^2, without a second product
                errors.append(np.square((p * np.sqrt(d2)).sum(0)) / store.dim)
            assert len(errors) > 150
            assert np.mean(errors) <= tolerance, (flips, tolerance)
