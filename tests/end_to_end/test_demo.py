"""The demo on tiny settings: killed in the middle, then run again to the end."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from postmean.cli.main import run
from tests.support.runs import start, wait_until


def test_demo_goes_on_after_a_kill_and_ends_with_model_samples_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo out"
    arguments = ["--out", str(out), "--tuples", "2000", "--json"]
    killed = start("demo", *arguments)

    def begun() -> bool:
        assert killed.poll() is None, killed.communicate()
        return (out / "targets" / "manifest.json").exists()

    wait_until(begun, "the manifest of the targets")
    killed.kill()
    killed.communicate()
    assert run("demo", arguments) == 0  # in this process, which has loaded most of what it needs
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    report = json.loads(said.out)

    assert "import" not in report["seconds"]
    assert report["tuples"] == 2048
    assert 0 < report["records"] < 2048
    assert report["certified_share"] == pytest.approx(1 - report["records"] / 2048)
    assert [path.name for path in sorted((out / "model" / "checkpoints").iterdir())][-1] == "00000016"
    assert len(list((out / "samples").glob("[0-9]*.png"))) == 64
    with Image.open(out / "demo.png") as picture:
        assert picture.width > 800
        assert np.asarray(picture.convert("L")).std() > 10
    rows = report["mse"]
    # the training target is exact within the tolerance; the usual one is off by the posterior's variance
    assert all(row["postmean"] < 1e-6 for row in rows)
    assert rows[-1]["single-sample"] > 100 * rows[-1]["postmean"]
    assert rows[-1]["knn-snis"] < rows[-1]["single-sample"]


def test_demo_of_less_than_a_batch_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", ["--tuples", "5"]) == 2
    assert "--tuples" in capsys.readouterr().err
