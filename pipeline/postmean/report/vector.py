"""How drawings of reports look, and how they are saved as vector graphics. Equal drawings give equal bytes."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from postmean.base.extras import needs
from postmean.base.files import write_file

with needs("report"):
    import matplotlib

    matplotlib.use("Agg")

    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.linewidth": 0.3,
    "grid.color": "#cccccc",
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "svg.hashsalt": "postmean",  # else the ids in a file are random
    "svg.fonttype": "none",  # text stays text
    "figure.facecolor": "white",
}
"""Settings of matplotlib, for `plt.rc_context`."""
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


def sigma_axis(axis: Any, sigmas: Sequence[float]) -> None:
    """A logarithmic x axis from the least to the largest of these noise levels."""
    low, high = min(sigmas), max(sigmas)
    shown = [s for s in _TICKS if low <= s <= high] or sorted(set(sigmas))
    log_axis(axis, shown[:: -(-len(shown) // 11)])
    axis.set_xlabel(r"noise level $\sigma$")


def log_axis(axis: Any, shown: Sequence[float]) -> None:
    """A logarithmic x axis with ticks at these noise levels alone."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(shown))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([f"{s:g}" for s in shown])


def save_vector(figure: Figure, path: Path) -> None:
    """Write the figure as its suffix says (.svg or .pdf), without a date, and close it."""
    buffer, kind = io.BytesIO(), path.suffix.removeprefix(".")
    figure.savefig(buffer, format=kind, metadata={"Date" if kind == "svg" else "CreationDate": None})
    plt.close(figure)
    write_file(path, buffer.getvalue())
