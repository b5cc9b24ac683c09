"""Classes together on a GPU, or on the stand-in for one: the means of float64, and few launches."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from postmean.contract.image_store import ImageStore, StoreWriter
from postmean.contract.noise import ICTNoise
from postmean.contract.recipe import TargetRecipe
from postmean.contract.settings import EstimatorSettings
from postmean.engine.class_blocks import ClassBlocks
from postmean.estimators.by_class import ByClass
from postmean.estimators.estimate import Queries
from postmean.estimators.replica import Replica
from postmean.fleet.settings import ActorSettings
from postmean.runs.config import JobConfig
from postmean.runs.job import resolve
from tests.support.cuda_stand_in import COUNTS
from tests.support.posterior_examples import images_x, posterior, queries_from, random_images

SHAPE = (3, 4, 6)


def classes_store(path: Path, sizes: list[int], images: np.ndarray) -> ImageStore:
    """A store whose images have labels of these class sizes, shuffled."""
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    with StoreWriter(path, tuple(f"c{c}" for c in range(len(sizes))), {"importer": "test"}) as writer:
        writer.append(images, labels)
        return writer.finish()


def near_duplicates(count: int) -> np.ndarray:
    """Images in tight clusters, some of them equal."""
    generator = np.random.default_rng(3)
    centres = random_images(max(1, count // 8), SHAPE)[generator.integers(0, max(1, count // 8), count)]
    return np.clip(centres.astype(int) + generator.integers(-1, 2, centres.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["random", "near duplicates", "one image"])
@pytest.mark.parametrize("sigma", [0.02, 2.0, 80.0])
def test_means_within_classes_match_float64(tmp_path: Path, kind: str, sigma: float) -> None:
    sizes = [1, 64, 65, 130, 3, 128, 40]
    total = sum(sizes)
    images = {
        "random": random_images(total, SHAPE),
        "near duplicates": near_duplicates(total),
        "one image": np.repeat(random_images(1, SHAPE), total, 0),
    }[kind]
    store = classes_store(tmp_path / "store", sizes, images)
    queries, label = _queries(store, images, sigma, 60)
    blocks = ClassBlocks.of(store, "cuda", 0.0)
    assert blocks is not None
    estimate, rows = ByClass(blocks, 32, 2.5e-4).estimate(queries, label)
    if sigma >= 2.0:
        assert len(rows) == len(label)
    if estimate is None:
        return
    x, labels = images_x(images), store.labels
    for position, row in enumerate(rows):
        members = np.flatnonzero(labels == label[row])
        exact = posterior(x[members], queries.z[int(row)].cpu().numpy(), sigma)
        assert np.square(estimate.mean[position] - exact.mean).mean() <= 2.5e-7
        assert abs(estimate.ess[position] * np.square(exact.p).sum() - 1) <= 0.02
        support = estimate.support[position]
        if support is not None:
            assert set(support[0]) <= set(members)
            assert np.square(support[1] @ x[support[0]] - exact.mean).mean() <= 2.5e-7


def test_launches_hardly_grow_with_classes(tmp_path: Path, device: str, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["device"] == "real":
        pytest.skip("a real device does not count")
    counted = []
    for classes in (8, 64):
        images = random_images(classes * 20, SHAPE)
        store = classes_store(tmp_path / str(classes), [20] * classes, images)
        blocks = ClassBlocks.of(store, "cuda", 0.0)
        assert blocks is not None
        estimator = ByClass(blocks, 32, 2.5e-4)
        queries, label = _queries(store, images, 2.0, 2 * classes)
        estimator.estimate(queries, label)
        COUNTS.launches.clear()
        COUNTS.syncs.clear()
        estimator.estimate(queries, label)
        counted.append((COUNTS.launches.total(), COUNTS.syncs.total()))
    assert counted[1][0] <= counted[0][0] + 30, counted
    assert counted[1][1] <= 20, counted


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_a_conditional_replica_has_the_means_of_the_cpu(tmp_path: Path, solver: Literal["euler", "heun"]) -> None:
    store = classes_store(tmp_path / "store", [30, 1, 70, 20], random_images(121, SHAPE))
    records = []
    for device in ("cpu", "cuda"):
        manifest = resolve(
            JobConfig(
                store=store.path,
                tuples=100,
                recipe=TargetRecipe(noise=ICTNoise(P_mean=1.0), solver=solver, conditional=True),
                estimator=EstimatorSettings(certificate=False),
                actor=ActorSettings(threads_per_actor=1, device=device),
            ),
            store,
        )
        replica = Replica(manifest, store, None)
        replica.load()
        block = manifest.tuple_source().block(0, 100)
        records.append(replica.estimate(block))
        assert records[-1].ess.min() >= 1
        again = replica.estimate(block)
        assert np.array_equal(again.mean.decode(store), records[-1].mean.decode(store))
    cpu, gpu = records
    assert np.square(cpu.mean.decode(store) - gpu.mean.decode(store)).mean() <= 2e-7
    if solver == "heun":
        assert cpu.mean_next is not None and gpu.mean_next is not None
        assert np.square(cpu.mean_next.decode(store) - gpu.mean_next.decode(store)).mean() <= 2e-7
    assert np.allclose(cpu.variance, gpu.variance, atol=2e-4)


def _queries(store: ImageStore, images: np.ndarray, sigma: float, count: int) -> tuple[Queries, np.ndarray]:
    """Queries made from images, and their classes, in order of class."""
    queries = queries_from(images_x(images), sigma, count)
    assert store.labels is not None
    label = store.labels[queries.source].astype(np.int64)
    order = np.argsort(label, kind="stable")
    queries = queries.select(order)
    return replace(queries, z=torch.as_tensor(queries.z).cuda()), label[order]
