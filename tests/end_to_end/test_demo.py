"""The demo on tiny settings: killed in the middle, then run again to the end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DEADLINE = 600.0  # seconds per call; all calls together take 50 s of CPU time


def command(out: Path) -> list[str]:
    return [sys.executable, "-m", "postmean", "demo", "--out", str(out), "--tuples", "2000", "--json"]


def run_demo(out: Path) -> dict:
    done = subprocess.run(command(out), capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def test_demo_goes_on_after_a_kill_and_ends_with_model_samples_and_picture(tmp_path: Path) -> None:
    out = tmp_path / "demo out"
    with subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        limit = time.monotonic() + DEADLINE
        while not (out / "targets" / "manifest.json").exists() and time.monotonic() < limit:
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    report = run_demo(out)

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
    from postmean.cli.main import run

    assert run("demo", ["--tuples", "5"]) == 2
    assert "--tuples" in capsys.readouterr().err
