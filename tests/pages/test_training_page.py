"""The page of a training run says what its metrics say, shows its grids, and needs nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest

from postmean.base.errors import DataError
from postmean.cli.main import run as postmean
from postmean.pages.page import render
from postmean.pages.training_page import training_page
from tests.pages.conftest import Parsed


def test_what_it_says(training: Path) -> None:
    page = Parsed(render(training_page(training)))
    page.check_alone()
    for said in ("400 of 500", "51,200 of 64,000", "stage 3", "FID", "step 200, best", "2 of 2 grids", "not finished"):
        assert said in page.text, said
    pictures = [a for tag, a in page.tags if tag == "img" and str(a["src"]).startswith("data:image/png")]
    assert [a["alt"] for a in pictures] == [
        "samples: step 400, 51,200 images",
        "samples: step 200, 25,600 images",
    ]


def test_the_command_writes_it_beside_the_run(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert postmean("report", ["training", str(training)]) == 0
    assert "report.html: not finished" in capsys.readouterr().out
    assert (training / "report.html").read_bytes().startswith(b"<!doctype html>")


def test_a_run_that_has_just_begun_has_a_page(training: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((training / "config.json").read_bytes())
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kimg"')  # cut off
    assert "0 of 500" in Parsed(render(training_page(tmp_path))).text


def test_one_line_of_metrics_is_told_and_two_are_drawn(training: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((training / "config.json").read_bytes())
    lines = (training / "metrics.jsonl").read_text().splitlines(keepends=True)
    for count in (1, 2):
        (tmp_path / "metrics.jsonl").write_text("".join(lines[:count]))
        charts = [chart for section in training_page(tmp_path).sections for chart in section.charts]
        assert bool(charts) == (count == 2)
    assert [label in charts[1].svg.decode() for label in ("σ &lt; 0.05", "σ 0.2 to 1", "σ &gt; 16", "inf")] == [
        *[True] * 3,
        False,
    ]


def test_a_folder_without_a_training_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training run"):
        training_page(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"config": {"steps": "x"}}))
    with pytest.raises(DataError, match="not the config of a training run"):
        training_page(tmp_path)


def test_long_runs_are_averaged_without_losing_their_ends(training: Path) -> None:
    from postmean.pages.training_page import _chart

    lines = [{"kimg": float(n)} for n in range(10_000)]
    values = np.linspace(4.0, 2.0, 10_000)
    values[::7] = np.nan
    chart = _chart(lines, {"loss": values}, "Loss")
    assert chart.alt.startswith("Loss: from 3.99") and chart.alt.endswith("to 2.007.")
    assert len(chart.svg) < 60_000
