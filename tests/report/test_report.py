"""The report on a tiny store: resume, determinism, table and pictures."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from postmean.cli import main as command
from postmean.report.estimators import report_estimators
from postmean.report.evaluate import Evaluation
from postmean.report.grids import grid_rows, make_grids


def run(store, out: Path, settings):
    return report_estimators(store, out, settings, None, None)


@pytest.fixture(scope="module")
def made(store, settings, tmp_path_factory):
    """A report and its folder, which no test writes to."""
    out = tmp_path_factory.mktemp("report") / "out"
    return out, run(store, out, settings)


@pytest.fixture
def out(made, tmp_path) -> Path:
    """A copy of the folder of `made`, with its times."""
    return Path(shutil.copytree(made[0], tmp_path / "out"))


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def test_resume_computes_only_missing_cells_and_gives_identical_files(store, settings, made, out, tmp_path):
    _, first = made
    assert first.computed == first.cells == len(settings.sigmas) * len(settings.methods(False))
    before, parts = contents(out), {p: p.stat().st_mtime_ns for p in (out / "parts").iterdir()}
    assert run(store, out, settings).computed == 0
    lost = sorted(path for path in parts if not path.name.startswith("grids"))[3:6]
    lost[0].unlink()
    lost[1].write_text("{")
    lost[2].write_text(lost[2].read_text()[:40])
    again = run(store, out, settings)
    assert again.computed == 3
    assert contents(out) == before
    assert {p for p, t in parts.items() if p.stat().st_mtime_ns != t} == set(lost)
    assert contents(out) == (run(store, tmp_path / "other", settings) and contents(tmp_path / "other"))


def test_another_sigma_keeps_the_cells_of_the_others(store, settings, out):
    more = run(store, out, replace(settings, sigmas=(0.4, 1.0, 2.0)))
    assert more.computed == len(settings.methods(False))
    other_seed = run(store, out, replace(settings, seed=1))
    assert other_seed.computed == other_seed.cells


def test_the_table_is_tidy_and_reads_with_plain_pyarrow(store, settings, made):
    out, report = made
    table = pq.read_table(out / "estimators.parquet")
    rows = table.to_pylist()
    assert len(rows) == report.cells
    names = ("estimator", "k", "n", "m", "index", "nprobe", "source", "sigma")
    assert len({tuple(row[name] for name in names) for row in rows}) == len(rows)
    for row in rows:
        assert row["score_mse"] == pytest.approx(row["mean_mse"] / row["sigma"] ** 4)
        assert row["mean_mse"] == pytest.approx(row["mean_bias2"] + row["mean_variance"], rel=1e-9, abs=1e-18)
    about = json.loads(table.schema.metadata[b"postmean"])
    assert about["store"]["fingerprint"] == store.header.fingerprint
    text = (out / "estimators.md").read_text()
    for method in settings.methods(False):
        assert f"| {method.label} |" in text


def test_pictures_exist_and_show_something(made):
    out, report = made
    pictures = [name for name in report.files if name.endswith(".png")]
    assert pictures == ["images-1.png", "images-2.png"]
    for name in pictures:
        path = out / name
        with Image.open(path) as picture:
            assert min(picture.size) >= 100
            assert len(np.unique(np.asarray(picture.convert("RGB")) @ (1 << 16, 1 << 8, 1))) > 20
        assert path.stat().st_size < 200_000
    drawings = [name for name in report.files if name.endswith(".svg")]
    assert drawings == ["estimators.svg", "sweep-n16.svg", "sweep-n4.svg"]
    for name in drawings:
        root = ElementTree.fromstring((out / name).read_text())
        assert root.tag.endswith("svg") and sum(e.tag.endswith("path") for e in root.iter()) > 20
        assert any("mean squared error" in (e.text or "") for e in root.iter())


def test_grids_have_a_row_for_each_estimate_and_a_column_for_each_sigma(store, settings):
    grids = make_grids(Evaluation(store, settings), False, lambda done: None)
    assert list(grids) == list(grid_rows(Evaluation(store, settings), False)) == ["z", "exact mean", "knn-snis", "auto"]
    for means in grids.values():
        assert means.shape == (settings.images, len(settings.sigmas), *store.image_shape)
    assert np.abs(grids["auto"] - grids["exact mean"]).max() < 0.01
    np.testing.assert_allclose(grids["exact mean"][:, 0], grids["knn-snis"][:, 0], atol=1e-3)


def save_denoiser(run: Path, shape: tuple[int, int, int]) -> Path:
    """A run with one checkpoint of a tiny untrained denoiser."""
    from postmean.contract.process import EDMProcess
    from postmean.training.checkpoint import AveragedDenoiser, DenoiserCard, save_checkpoint
    from postmean.training.model.networks import UNet2DNetwork
    from postmean.training.model.preconditionings import EDMPreconditioning

    network = UNet2DNetwork(channels=8, channel_mult=(1,), layers_per_block=1, attention_resolutions=())
    preconditioning = EDMPreconditioning()
    card = DenoiserCard(
        preconditioning=preconditioning,
        time_conditioning=preconditioning.time_conditioning,
        consistency=False,
        process=EDMProcess(),
        image_shape=shape,
        classes=0,
        images_seen=0,
    )
    averaged = AveragedDenoiser(network=network.build(shape, 0), settings=network, card=card)
    return save_checkpoint(run, averaged, {}, {"step": 1, "next_tuple": 0}, 1)


def test_the_command_with_a_trained_network(store, tmp_path, capsys):
    checkpoint = save_denoiser(tmp_path / "run", store.image_shape)
    arguments = [str(store.path), "--out", str(tmp_path / "out"), "--quick", "--points", "4", "--sigmas", "0.5", "2"]
    arguments += ["--network", str(checkpoint), "--threads", "1", "--device", "cpu", "--json"]
    assert command.run("report", ["estimators", *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cells"] == report["computed"] > 0
    rows = pq.read_table(tmp_path / "out" / "estimators.parquet").to_pylist()
    network = [row for row in rows if row["estimator"] == "network"]
    assert len(network) == 2 and all(row["mean_variance"] == 0 for row in network)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score"], "no report 'score'"),
        (["estimators", "STORE", "--out", "x", "--points", "1"], "--points"),
        (["estimators", "STORE", "--out", "x", "--sigmas", "-1"], "--sigmas"),
        (["estimators", "STORE", "--out", "OUT", "--index", "ivf3-sq8", "--quick", "--sigmas", "1"], "postmean index"),
    ],
)
def test_mistakes_are_one_line(store, tmp_path, capsys, arguments, message):
    names = {"STORE": str(store.path), "OUT": str(tmp_path / "out")}
    assert command.run("report", [names.get(a, a) for a in arguments]) == 2
    error = capsys.readouterr().err.strip()
    # progress lines of earlier cells may come first
    assert message in error.splitlines()[-1]
