"""The demo's picture: noisy digits and their means by sigma, the errors of the means, and samples of the model."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from postmean.base.extras import needs
from postmean.base.files import write_file
from postmean.demo.comparison import Comparison
from postmean.training.images import ImageFolder, grid_of

with needs("demo"):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

_ROWS = (
    ("exact", "exact mean\n(float64)"),
    ("postmean", "postmean\n(training target)"),
    ("knn-snis", "knn-snis\n(64 neighbours)"),
    ("network", "trained\nnetwork"),
)
_CURVES = (
    ("single-sample", "single sample (usual target)", "#999999"),
    ("stf", "stf, 64 draws", "#e69f00"),
    ("knn-snis", "knn-snis, 64 neighbours", "#56b4e9"),
    ("network", "trained network", "#009e73"),
    ("postmean", "postmean target", "#d55e00"),
)
_PICTURED = 5
"""Tuple shown in the upper part."""


def draw(comparison: Comparison, samples: Path, path: Path) -> None:
    """Write the picture as a PNG.

    Args:
        samples: folder of `postmean sample`; its first 64 images are shown.
    """
    figure = Figure(figsize=(10.5, 9.2), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.12, 1), width_ratios=(1, 1.12), hspace=0, wspace=0)
    upper, left, right = (figure.add_subfigure(part) for part in (grid[0, :], grid[1, 0], grid[1, 1]))
    _draw_means(upper, comparison)
    _draw_samples(left, samples)
    _draw_errors(right, comparison)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_file(path, buffer.getvalue())


def _draw_means(figure: Any, comparison: Comparison) -> None:
    figure.suptitle("E[x | z, σ] over 1 797 digits of 8×8 pixels, at rising noise level σ", fontsize=13, y=0.975)
    axes = figure.subplots(
        1 + len(_ROWS),
        len(comparison.sigma),
        gridspec_kw=dict(left=0.135, right=0.985, top=0.86, bottom=0.02, wspace=0.08, hspace=0.08),
    )
    for column, sigma in enumerate(comparison.sigma):
        reach = 1 + 2 * sigma
        _show(axes[0, column], comparison.z[column, _PICTURED], reach)
        axes[0, column].set_title(f"σ = {sigma:g}", fontsize=10)
        for row, (kind, _) in enumerate(_ROWS, 1):
            images = comparison.exact if kind == "exact" else comparison.means[kind]
            _show(axes[row, column], images[column, _PICTURED])
    for axis, label in zip(axes[:, 0], ["noisy image\nz = x + σε", *(label for _, label in _ROWS)], strict=True):
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10, labelpad=8)


def _draw_samples(figure: Any, samples: Path) -> None:
    images = ImageFolder(samples)
    shown = np.stack([images[number] for number in range(min(64, len(images)))])
    figure.suptitle(f"{len(shown)} samples of the trained network", fontsize=12, y=0.965)
    sheet = grid_of(shown, columns=int(np.ceil(np.sqrt(len(shown)))))[0]
    axis = figure.subplots(gridspec_kw=dict(left=0.04, right=0.97, top=0.9, bottom=0.04))
    axis.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_axis_off()


def _draw_errors(figure: Any, comparison: Comparison) -> None:
    figure.suptitle("Error of each mean against the exact one", fontsize=12, y=0.965)
    axis = figure.subplots(gridspec_kw=dict(left=0.14, right=0.97, top=0.9, bottom=0.12))
    floor = 1e-13
    for kind, label, colour in _CURVES:
        error = np.maximum(comparison.error(kind).mean(1), floor)
        axis.loglog(comparison.sigma, error, "o-", color=colour, label=label, markersize=4, linewidth=1.6)
    axis.set_ylim(floor, 1)
    axis.set_xticks(comparison.sigma, [f"{s:g}" for s in comparison.sigma], fontsize=8)
    axis.minorticks_off()
    axis.set_xlabel("σ")
    axis.set_ylabel("mean squared error per pixel")
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False, loc="lower right")


def _show(axis: Any, image: np.ndarray, reach: float = 1.0) -> None:
    """A grey [1, H, W] or RGB [3, H, W] image whose values lie in [-reach, reach]."""
    unit = np.clip((image / reach + 1) / 2, 0, 1)
    axis.imshow(unit.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
