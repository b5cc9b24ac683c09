"""Charts as SVG files, narrow enough for a phone. Equal numbers give equal bytes."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from postmean.base.extras import needs

with needs("report"):
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

_INCHES = (3.75, 2.5)
_COLOURS = ("#1f6fb2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#5b6675")
_PLAIN = FuncFormatter(lambda value, _: f"{value:,.10g}")
_MARKED = 60
"""Points of a line that each have a mark, at most."""
_STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#5b6675",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.3,
    "grid.color": "#cccccc",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "svg.hashsalt": "postmean",  # else ids are random
}


def curves(
    x: np.ndarray,
    lines: dict[str, np.ndarray],
    x_label: str,
    log_x: bool = True,
    log_y: bool = False,
    top: float | None = None,
) -> bytes:
    """Lines over one axis, by name; a chart of one line has no legend, others have it above, where no line is.

    Args:
        x: [n]; lines: [n] each, nan where there is none.
        top: upper end of a linear y, such as 1 of a share; default a little above the lines.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axis = _axis(x_label)
        mark = "o-" if len(x) <= _MARKED else "-"
        for (name, y), colour in zip(lines.items(), _COLOURS, strict=False):
            axis.plot(x, y, mark, color=colour, label=name)
        if len(lines) > 1:
            _legend(figure)
        _scales(axis, log_x, log_y, top)
        return _svg(figure)


def band(x: np.ndarray, low: np.ndarray, middle: np.ndarray, high: np.ndarray, x_label: str, log_y: bool) -> bytes:
    """A median with the band from the 10th to the 90th percentile, over a logarithmic x; all [n]."""
    with matplotlib.rc_context(_STYLE):
        figure, axis = _axis(x_label)
        axis.fill_between(x, low, high, color=_COLOURS[0], alpha=0.2, linewidth=0, label="10 to 90 %")
        axis.plot(x, middle, "o-", color=_COLOURS[0], label="median")
        _legend(figure)
        _scales(axis, True, log_y)
        return _svg(figure)


def histogram(values: np.ndarray, x_label: str, log_x: bool = False) -> bytes:
    """Counts of finite values in 40 bins."""
    values = values[np.isfinite(values) & ((values > 0) | (not log_x))]
    low, high = (values.min(), values.max()) if len(values) else (1.0, 2.0)
    if low == high:
        low, high = (low / 1.1, high * 1.1) if log_x else (low - 0.5, high + 0.5)
    edges = np.geomspace(low, high, 41) if log_x else np.linspace(low, high, 41)
    with matplotlib.rc_context(_STYLE):
        figure, axis = _axis(x_label)
        axis.hist(values, bins=edges, color=_COLOURS[0])
        _scales(axis, log_x, False)
        _whole_numbers(axis)
        return _svg(figure)


def bars(names: Sequence[str], counts: Sequence[int]) -> bytes:
    """One bar for each of a few names."""
    with matplotlib.rc_context(_STYLE):
        figure, axis = _axis("")
        axis.bar(range(len(names)), counts, color=_COLOURS[0])
        turn = max(map(len, names), default=0) * len(names) > 40
        shown = [name if len(name) <= 14 else name[:13] + "…" for name in names]
        axis.set_xticks(range(len(names)), shown, rotation=60 if turn else 0, ha="right" if turn else "center")
        axis.grid(axis="x", visible=False)
        _whole_numbers(axis)
        return _svg(figure)


def _axis(x_label: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=_INCHES, layout="constrained")
    FigureCanvasSVG(figure)
    axis = figure.add_subplot()
    axis.set_xlabel(x_label)
    return figure, axis


def _legend(figure: Figure) -> None:
    """Above the axis, in rows of three."""
    figure.legend(loc="outside upper center", ncols=3, columnspacing=1.2, handlelength=1.5)


def _scales(axis: Any, log_x: bool, log_y: bool, top: float | None = None) -> None:
    if log_x:
        axis.set_xscale("log")
        _logarithmic_ticks(axis.xaxis)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(6))
    if log_y:
        axis.set_yscale("log")
        _logarithmic_ticks(axis.yaxis)
    else:
        highest = axis.dataLim.y1
        axis.set_ylim(0, 1.05 * (top or (highest if np.isfinite(highest) and highest > 0 else 1.0)))
        axis.yaxis.set_major_formatter(_PLAIN)


def _whole_numbers(axis: Any) -> None:
    axis.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.yaxis.set_major_formatter(_PLAIN)


def _logarithmic_ticks(axis: Any) -> None:
    """Plain numbers unless the axis spans more than four powers of ten."""
    low, high = axis.get_view_interval()
    if high / low < 1e4:
        axis.set_ticks(*_round_ticks(low, high))
        axis.set_minor_locator(NullLocator())
        axis.set_view_interval(low, high, ignore=True)  # ticks may have widened it


def _round_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """1, 2, 5, 10 and so on, or the powers of ten alone where these would be too many."""
    ticks = [m * 10.0**e for e in range(-12, 13) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    if len(ticks) > 9:
        ticks = [tick for tick in ticks if f"{tick:e}".startswith("1")]
    if len(ticks) < 3:
        ticks = [
            float(tick) for tick in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high
        ]
    return ticks, [f"{tick:,.10g}" if tick >= 1e-4 else f"{tick:g}" for tick in ticks]


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with np.errstate(all="ignore"):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
