"""A study: resumed, and its errors those of the dialled target by brute force."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from postmean.cli.main import run as postmean
from postmean.contract.image_store import ImageStore
from postmean.engine.population import Population
from postmean.report.points import Points, exact_means
from postmean.report.study import StudySettings, study

SETTINGS = StudySettings(k=(4, 60), n=(4, 2_000), beta=(1.0, 0.5), seeds=(0, 1), sigmas=(2.0, 5.0), points=4, repeats=2)


@pytest.fixture(scope="module")
def made(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    report = study(store, out, SETTINGS)
    assert report.computed == report.cells == 2 * 2 * (1 + 2 * 2 * 2)
    return out


def test_the_error_is_that_of_the_dialled_target(store: ImageStore, made: Path) -> None:
    """With all images as neighbours and many draws, (1 - beta)^2 |x - mean|^2 is left."""
    rows = pq.read_table(made / "study.parquet").to_pylist()
    for sigma in SETTINGS.sigmas:
        expected = []
        for seed in SETTINGS.seeds:
            points = Points(Population(store, False), SETTINGS.of_seed(seed), sigma)
            x = points.population.x(points.source).numpy()
            expected.append(np.square(x - exact_means([points])[0]).mean())
        at = {(r["k"], r["n"], r["beta"]): r["mse"] for r in rows if r["sigma"] == sigma}
        assert at[None, None, 0.0] == pytest.approx(np.mean(expected), rel=1e-4)
        assert at[60, 2_000, 0.5] == pytest.approx(np.mean(expected) / 4, rel=0.1)
        assert at[60, 2_000, 1.0] < at[60, 4, 1.0] / 20


def test_a_study_goes_on(store: ImageStore, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in made.glob("study.*")}
    assert before["study.svg"].startswith(b"<?xml") and b"| usual" not in before["study.md"]
    lost = sorted((made / "parts").iterdir())[:3]
    for path in lost:
        path.unlink()
    words = "--k 4 60 --n 4 2000 --beta 1 0.5 --seeds 0 1 --sigmas 2 5 --points 4 --repeats 2 --device cpu --json"
    assert postmean("study", [str(store.path), "--out", str(made), *words.split()]) == 0
    assert json.loads(capsys.readouterr().out)["computed"] == 3
    assert {path.name: path.read_bytes() for path in made.glob("study.*")} == before
