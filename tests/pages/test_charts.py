"""Charts: no legend on a line, readable ticks, no point outside, no rate that only the end of a run makes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from postmean.contract.image_store import ImageStore
from postmean.pages import charts
from postmean.pages.run_progress import _apart
from postmean.pages.run_quality import quality_section
from postmean.pages.samples import RunSamples
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage

X = np.linspace(10.0, 200.0, 16)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn, as they are laid out."""
    made: list[Any] = []

    def keep(figure: Any) -> bytes:
        figure.canvas.draw()
        made.append(figure)
        return b""

    monkeypatch.setattr(charts, "_svg", keep)
    return made


def ticks(axis: Any) -> list[str]:
    low, high = axis.get_view_interval()
    return [
        t.get_text()
        for t, place in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
        if low <= place <= high
    ]


def test_legends_are_outside(figures: list[Any]) -> None:
    lines = {f"σ {low} to {low + 1}": np.full(16, low + 1.0) for low in range(6)}
    charts.curves(X, lines, "images", log_x=False)
    charts.band(X, X / 2, X, X * 2, "σ", log_y=True)
    for figure in figures:
        (legend,), (axis,) = figure.legends, figure.axes
        assert axis.get_legend() is None
        box = legend.get_window_extent()
        assert not box.overlaps(axis.get_window_extent())
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


@pytest.mark.parametrize(("low", "high"), [(18.0, 72.0), (1.0, 75.0), (11_300.0, 12_300.0), (2e-5, 3e-5)])
def test_logarithmic_axes_have_plain_numbers(figures: list[Any], low: float, high: float) -> None:
    charts.curves(X, {"loss": np.geomspace(high, low, 16)}, "images", log_x=False, log_y=True)
    axis = figures[0].axes[0]
    shown = ticks(axis.yaxis)
    assert 2 <= len(shown) <= 9
    assert not any("$" in text for text in shown)
    assert axis.get_ylim()[0] < low and axis.get_ylim()[1] > high


def test_the_highest_point_is_inside_and_shares_end_at_one(figures: list[Any]) -> None:
    charts.curves(X, {"loss": np.linspace(12_300, 11_200, 16)}, "images", log_x=False)
    charts.curves(X, {"share": np.full(16, 0.01)}, "σ", top=1.0)
    charts.bars(("cat", "dog"), (3, 4))
    high, share, bars = (figure.axes[0] for figure in figures)
    assert high.get_ylim() == (0, pytest.approx(1.05 * 12_300))
    assert share.get_ylim() == (0, 1.05)
    assert all(float(text).is_integer() for text in ticks(bars.yaxis))


def test_a_report_right_after_another_makes_no_rate_of_zero() -> None:
    assert _apart(np.array([0.0, 5.0, 10.0, 10.2])).tolist() == [0, 1, 3]
    assert _apart(np.array([0.0, 5.0, 10.0, 14.0])).tolist() == [0, 1, 2, 3]
    assert _apart(np.array([0.0, 0.1])).tolist() == [0, 1]


def test_a_run_of_dense_means_has_no_empty_chart(run: Path, store: ImageStore) -> None:
    folder = RunFolder(open_storage(run))
    sample = RunSamples(folder, store).records(list(range(len(folder.read_plan()))))
    assert "Share of sparse means" in [chart.title for chart in quality_section(sample).charts]
    dense = replace(sample, columns=sample.columns | {"count": np.full(len(sample), -1)})
    section = quality_section(dense)
    assert "Share of sparse means" not in [chart.title for chart in section.charts]
    assert "All means are dense." in section.text
