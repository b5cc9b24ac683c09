"""Runs planned from a sample: for more images than the store has, and with only some tuples counted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from postmean.base.cores import usable_cores
from postmean.base.errors import ConfigError
from postmean.cli.index import run as index
from postmean.contract.image_store import ImageStore, StoreWriter
from postmean.contract.noise import ICTNoise
from postmean.contract.plan import make_plan
from postmean.neighbours.certificate import certified_sigma
from postmean.neighbours.self_join import self_join
from postmean.planning.config import SampleSettings
from postmean.planning.sampled_population import SampledPopulation
from postmean.planning.workload import workload
from postmean.runs.config import GenerateConfig
from tests.support.settings import generate_config
from tests.support.stores import digits_store


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return indexed(digits_store(tmp_path_factory.mktemp("whole") / "store"))


@pytest.fixture(scope="module")
def quarter(whole: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """A random quarter of the images of `whole`."""
    rows = np.random.default_rng(0).permutation(len(whole))[: len(whole) // 4]
    assert whole.labels is not None
    with StoreWriter(tmp_path_factory.mktemp("quarter") / "store", whole.header.class_names, {}) as writer:
        writer.append(whole.images[rows], whole.labels[rows])
        return indexed(writer.finish())


def indexed(store: ImageStore) -> ImageStore:
    assert index([str(store.path)]) == index([str(store.path), "--conditional"]) == 0
    return store


def settings(store: ImageStore, **others) -> GenerateConfig:
    return generate_config(store, "nowhere", **{"tuples": 300_000, **others})


@pytest.mark.parametrize("conditional", [False, True], ids=["all images", "a class"])
def test_records_of_a_data_set_follow_from_a_quarter_of_it(
    whole: ImageStore, quarter: ImageStore, conditional: bool
) -> None:
    expected = workload(settings(whole, conditional=conditional)).records
    extrapolated = workload(settings(quarter, conditional=conditional), SampleSettings(images=len(whole))).records
    taken_as_it_is = workload(settings(quarter, conditional=conditional)).records
    assert extrapolated == pytest.approx(expected, rel=0.08)
    assert abs(extrapolated - expected) < abs(taken_as_it_is - expected)


def test_more_images_make_more_records(quarter: ImageStore) -> None:
    plain = workload(settings(quarter))
    counts = [
        workload(settings(quarter), SampleSettings(images=n)).records for n in (len(quarter), 2_000, 20_000, 2_000_000)
    ]
    assert counts[0] == plain.records
    assert counts == sorted(set(counts))
    assert workload(settings(quarter), SampleSettings(images=2_000)).stands_for == 2_000 / len(quarter)


def test_classes_that_grow_with_the_data_set_change_nothing(quarter: ImageStore) -> None:
    plain = workload(settings(quarter, conditional=True))
    grown = workload(settings(quarter, conditional=True), SampleSettings(images=100 * len(quarter), classes=1000))
    assert (grown.stands_for, grown.records) == (1.0, plain.records)


def test_a_member_that_stands_for_several_is_as_several_copies(quarter: ImageStore, tmp_path: Path) -> None:
    few, copies = quarter.images[:60], 5
    with StoreWriter(tmp_path / "few", None, {}) as writer:
        writer.append(few, None)
        sample = writer.finish()
    with StoreWriter(tmp_path / "copied", None, {}) as writer:
        writer.append(np.tile(few, (copies, 1, 1, 1)), None)
        copied = writer.finish()
    one = SampledPopulation(sample, False, stands_for=copies)
    assert (one.represented, one.at_hand(10), one.at_hand_with_source(11)) == (300, 2, 3)
    # copies of an image add nothing to its own sum
    nearest = len(copied) - 1
    expected = certified_sigma(self_join(copied, False, False, nearest), 1e-6, copied.dim)[: len(few)]
    found = certified_sigma(self_join(sample, False, False, nearest), 1e-6 / copies, sample.dim)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_records_counted_on_a_sample_are_those_of_the_plan_within_the_error_stated(
    quarter: ImageStore, seed: int
) -> None:
    tuples = 6_000_000
    config = settings(quarter, tuples=tuples, seed=seed, noise=ICTNoise(total_steps=6_000, batch_size=1000, s1=160))
    work = workload(config)
    plan = make_plan(work.manifest.tuple_source(), tuples, work.certified_sigma, 2048, threads=usable_cores())
    assert 0 < work.records_error < 0.01
    assert abs(work.records / plan.total_records - 1) < 4 * work.records_error
    every = workload(replace(config, tuples=100_000))
    assert every.records_error == 0
    plan = make_plan(every.manifest.tuple_source(), 100_000, every.certified_sigma, 2048)
    assert (every.records, every.shards) == (plan.total_records, len(plan))


def test_the_sample_to_measure_on_has_the_noise_levels_of_the_records(quarter: ImageStore) -> None:
    work = workload(settings(quarter, tuples=3_000_000))
    source = work.manifest.tuple_source()
    block = source.block(0, 200_000)
    assert work.certified_sigma is not None
    sigma = block.sigma[block.sigma > work.certified_sigma[source.image(block.entry)]]
    for q in (0.1, 0.5, 0.9):
        assert np.quantile(work.sample.sigma, q) == pytest.approx(np.quantile(sigma, q), rel=0.05)


def test_an_index_of_faiss_is_not_extrapolated(tmp_path: Path) -> None:
    store = digits_store(tmp_path / "flat", 100)
    assert index([str(store.path), "--index=flat"]) == 0
    with pytest.raises(ConfigError, match=r"--images 9,000: the cost of --index flat is not extrapolated"):
        workload(settings(store, estimator="knn-snis", index="flat"), SampleSettings(images=9_000))
