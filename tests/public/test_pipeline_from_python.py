"""From images to a verified run and a plan, by the public functions alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from postmean.pipeline import (
    ActorSettings,
    ConfigError,
    FleetSettings,
    GenerateConfig,
    ImageStore,
    ImportConfig,
    IndexConfig,
    PlanConfig,
    TargetRecipe,
    VerifyConfig,
    generate,
    import_images,
    index,
    plan,
    verify,
    with_flags,
)
from postmean.training import TargetStream


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("public")
    generator = np.random.default_rng(0)
    for number in range(40):
        path = folder / "photos" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (4, 4, 3)).astype(np.uint8)).save(path)
    report = import_images(ImportConfig(source=folder / "photos", store=folder / "store", workers=1))
    assert (report.images, report.shape, report.classes) == (40, (3, 4, 4), 2)
    done = index(IndexConfig(store=folder / "store", threads=1))
    assert done.computed and Path(done.self_join).is_file() and done.index is None
    return folder / "store"


def test_a_run_is_planned_generated_verified_and_streamed(
    store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = GenerateConfig(store=store, tuples=300, out=str(tmp_path / "run"), fleet=FleetSettings(actors=1))
    job = with_flags(job, records_per_shard=100, device="cpu", estimator="exact")
    cost = plan(
        PlanConfig(store=store, tuples=300, estimator=job.estimator, actor=ActorSettings(device="cpu")), progress=False
    )
    exact = plan(
        PlanConfig(store=store, tuples=300, estimator=job.estimator, actor=job.actor, exact=True), progress=False
    )
    report = generate(job, progress=False)
    assert cost.records == exact.records == report.records
    assert report.written == report.shards == len(list((tmp_path / "run" / "shards").iterdir()))
    assert generate(job, progress=False).written == 0
    checked = verify(VerifyConfig(out=job.out, store=store), progress=False)
    assert checked.problems == [] and checked.estimator == "exact"
    with_recipe = TargetStream.open(job.out, ImageStore.open(store), 50, recipe=TargetRecipe())
    assert sum(len(batch) for batch in with_recipe) == 300
    assert capfd.readouterr() == ("", "")


def test_a_dry_run_is_refused_with_what_to_call(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="call plan"):
        generate(GenerateConfig(store=store, tuples=300, out=str(tmp_path / "run"), dry_run=True))
    assert not list(tmp_path.iterdir())
