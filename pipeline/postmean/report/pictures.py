"""Pictures of a report: curves over sigma as vector graphics, grids of images as PNG. Equal cells give equal bytes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from postmean.base.extras import needs
from postmean.base.files import write_file
from postmean.contract.image_store import to_pixels
from postmean.contract.noisy import noisy_pixels
from postmean.estimators.traits import traits_of
from postmean.report.cells import Cell
from postmean.report.grids import Z
from postmean.report.settings import NETWORK, Method
from postmean.report.vector import STYLE, log_axis, save_vector

with needs("report"):
    import matplotlib

    matplotlib.use("Agg")

    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure
    from PIL import Image

_NETWORK = ("#7b3294", "X")  # colour and marker of the trained network
LIGHTER = {"stf": "#fdb863", "knn-snis": "#74add1", "knn-stratified": "#7fcdb0"}
"""Colour of an estimator's variant in the same picture (approximate search, source redrawn), drawn dashed."""
_PANELS = (("mse", "mean squared error"), ("bias2", "squared bias (hollow: upper bound)"), ("variance", "variance"))
_FLOOR = 1e-13  # errors below it are float32 rounding of the means
_MOST_BYTES = 190_000  # of a picture; a larger one gets a palette, which takes a third of the bytes


@dataclass(frozen=True)
class Curve:
    """A method's cells by rising sigma, and how they are drawn."""

    cells: list[Cell]
    label: str
    colour: Any
    marker: str
    line: str = "-"


def curves(methods: Sequence[Method], cells: Sequence[Cell]) -> list[Curve]:
    """One curve per method, in the colours of the estimators; in a sweep, rising k goes from light to dark blue."""
    several_k = sorted({m.k for m in methods if m.estimator == "knn-snis" and m.k is not None})
    drawn: list[Curve] = []
    for method in methods:
        own = sorted((c for c in cells if c.method == method), key=lambda c: c.sigma)
        colour, marker = _look(method)
        if method.estimator == "knn-snis" and method.k is not None and len(several_k) > 1:
            colour = plt.get_cmap("Blues")(0.35 + 0.6 * several_k.index(method.k) / (len(several_k) - 1))
        is_variant = method.index not in (None, "exact") or (method.estimator == "stf" and method.source == "redrawn")
        if is_variant:
            colour = LIGHTER[method.estimator]
        drawn.append(Curve(own, method.label, colour, marker, "--" if is_variant else "-"))
    return drawn


def _look(method: Method) -> tuple[Any, str]:
    """Colour and marker of a method's curve."""
    if method.estimator == NETWORK:
        return _NETWORK
    traits = traits_of(method.estimator)
    return traits.colour, traits.marker


def error_picture(path: Path, title: str, drawn: Sequence[Curve]) -> None:
    """MSE, squared bias and variance of the posterior mean (above) and of the score (below) over sigma."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(8.2, 5.6), sharex=True)
        for column, (name, heading) in enumerate(_PANELS):
            for row in range(2):
                _panel(axes[row, column], drawn, name, is_score=row == 1)
            axes[0, column].set_title(heading)
            axes[1, column].set_xlabel(r"noise level $\sigma$")
        axes[0, 0].set_ylabel(r"posterior mean, per dimension [$x^2$]")
        axes[1, 0].set_ylabel(r"score, per dimension [$x^{-2}$]")
        _share_limits(axes[0], [c for curve in drawn for c in curve.cells], is_score=False)
        _share_limits(axes[1], [c for curve in drawn for c in curve.cells], is_score=True)
        _finish(figure, path, title, drawn)


def search_picture(path: Path, title: str, drawn: Sequence[Curve]) -> None:
    """Exact against approximate search: errors, and what the search found."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(8.2, 5.6), sharex=True)
        for column, (name, heading) in enumerate(_PANELS):
            _panel(axes[0, column], drawn, name, is_score=False)
            axes[0, column].set_title(heading)
        axes[0, 0].set_ylabel(r"posterior mean, per dimension [$x^2$]")
        _share_limits(axes[0], [c for curve in drawn for c in curve.cells], is_score=False)
        with_search = [c for c in drawn if c.cells and c.cells[0].method.k is not None]
        for curve in with_search:
            if curve.cells[0].method.estimator != "knn-snis":
                continue
            k = curve.cells[0].method.k or 1
            sigma = [c.sigma for c in curve.cells]
            style = {"color": curve.colour, "linestyle": curve.line}
            axes[1, 0].plot(sigma, [c.recall for c in curve.cells], marker=curve.marker, **style)
            axes[1, 1].plot(sigma, [(c.neighbours_found or 0) / k for c in curve.cells], marker=curve.marker, **style)
            axes[1, 2].plot(sigma, [c.missed_mass for c in curve.cells], marker=curve.marker, **style)
        for curve in with_search:
            if curve.cells[0].method.index != "exact":
                sigma = [c.sigma for c in curve.cells]
                axes[1, 2].plot(sigma, [c.estimated_tail for c in curve.cells], ":", color=curve.colour, lw=1.6)
        for axis, heading in zip(
            axes[1],
            ("recall of the k nearest", "neighbours found / k", "posterior mass not found"),
            strict=True,
        ):
            axis.set_title(heading)
            axis.set_ylim(-0.03, 1.06)
            _sigma_axis(axis, drawn)
            axis.set_xlabel(r"noise level $\sigma$")
        axes[1, 0].set_ylabel("share")
        axes[1, 2].plot([], [], ":", color="#555555", lw=1.6, label="as the estimator takes it to be")
        axes[1, 2].legend(loc="upper left", fontsize=7)
        _finish(figure, path, title, drawn)


def grid_picture(path: Path, title: str, grids: dict[str, np.ndarray], images: range, sigmas: Sequence[float]) -> None:
    """Images row by row, columns sigma; a block of rows for each image. z is scaled by 1 + 2 sigma."""
    height, width = next(iter(grids.values())).shape[-2:]
    scale, gap, left, top = max(1, 64 // height), 3, 84, 44
    cell_h, cell_w = height * scale + gap, width * scale + gap
    block = len(grids) * cell_h + 9
    canvas = np.full((len(images) * block - 9, len(sigmas) * cell_w, 3), 255, np.uint8)
    for number, image in enumerate(images):
        for row, (name, means) in enumerate(grids.items()):
            for column, sigma in enumerate(sigmas):
                shown = noisy_pixels(means[image, column], sigma) if name == Z else to_pixels(means[image, column])
                pixels = shown.transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
                y, x = number * block + row * cell_h, column * cell_w
                canvas[y : y + height * scale, x : x + width * scale] = pixels
    pixels_h, pixels_w = canvas.shape[0] + top, canvas.shape[1] + left
    with plt.rc_context({"font.size": 8}):
        figure = plt.figure(figsize=(pixels_w / 100, pixels_h / 100), dpi=100)
        axis = figure.add_axes((left / pixels_w, 0.0, canvas.shape[1] / pixels_w, canvas.shape[0] / pixels_h))
        axis.imshow(canvas, interpolation="nearest", aspect="auto")
        axis.axis("off")
        figure.text(0.5, 1 - 10 / pixels_h, title, ha="center", va="center", fontsize=9)
        for column, sigma in enumerate(sigmas):
            x = (left + column * cell_w + width * scale / 2) / pixels_w
            figure.text(x, 1 - 32 / pixels_h, rf"$\sigma$ = {sigma:g}", ha="center", va="center")
        for number in range(len(images)):
            for row, name in enumerate(grids):
                y = 1 - (top + number * block + row * cell_h + height * scale / 2) / pixels_h
                figure.text((left - 6) / pixels_w, y, name, ha="right", va="center")
        _save(figure, path, dpi=100)


def _panel(axis: Any, drawn: Sequence[Curve], name: str, is_score: bool) -> None:
    for curve in drawn:
        if not curve.cells or (name == "variance" and curve.cells[0].method.is_deterministic):
            continue
        sigma = np.array([c.sigma for c in curve.cells])
        value = np.array([getattr(c, name) for c in curve.cells])
        error = np.array([getattr(c, f"{name}_se") for c in curve.cells])
        # a squared bias that the repeats cannot tell from 0 is drawn at its upper bound, hollow
        bounded = (value < 2 * error) if name == "bias2" and not curve.cells[0].method.is_deterministic else value < 0
        value = np.where(bounded, np.maximum(value, 0) + 2 * error, value)
        scale = sigma**-4.0 if is_score else np.ones_like(sigma)
        value = np.maximum(value * scale, 1e-40)
        axis.plot(sigma, value, color=curve.colour, linestyle=curve.line)
        for shown, face in ((~bounded, curve.colour), (bounded, "white")):
            axis.plot(
                sigma[shown], value[shown], curve.marker, color=curve.colour, markerfacecolor=face, linestyle="none"
            )
    axis.set_yscale("log")
    _sigma_axis(axis, drawn)


def _sigma_axis(axis: Any, drawn: Sequence[Curve]) -> None:
    sigmas = sorted({c.sigma for curve in drawn for c in curve.cells})
    log_axis(axis, [s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if sigmas[0] <= s <= sigmas[-1]] or sigmas)


def _share_limits(axes: Any, cells: Sequence[Cell], is_score: bool) -> None:
    """Set the same limits in a row of panels: up to the largest error, down to the floor of float32."""
    scaled = [c.mse * (c.sigma**-4.0 if is_score else 1.0) for c in cells]
    top = max(scaled, default=1.0)
    low = min((s for s in scaled if s > 0), default=_FLOOR)
    floor = _FLOOR * (min((c.sigma for c in cells), default=1.0) ** -4.0 if is_score else 1.0)
    if is_score:
        floor = min(floor, 1e-12)
    for axis in axes:
        axis.set_ylim(max(floor, low / 10, top * 1e-13), 10 * max(top, floor))


def _finish(figure: Figure, path: Path, title: str, drawn: Sequence[Curve]) -> None:
    handles = [
        plt.Line2D([], [], color=c.colour, linestyle=c.line, marker=c.marker, label=c.label)  # type: ignore[attr-defined]
        for c in drawn
        if c.cells
    ]
    longest = max(len(c.label) for c in drawn)
    columns = 4 if longest < 32 else 3 if longest < 44 else 2
    rows = -(-len(handles) // columns)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(rect=(0, 0.03 + 0.03 * rows, 1, 0.99))
    figure.legend(handles=handles, loc="lower center", ncols=columns, bbox_to_anchor=(0.5, 0.0), fontsize=8)
    save_vector(figure, path)


def _save(figure: Figure, path: Path, dpi: int) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=dpi)
    plt.close(figure)
    width, height = figure.canvas.get_width_height()
    size = (round(width * dpi / figure.dpi), round(height * dpi / figure.dpi))
    picture = Image.frombytes("RGBA", size, buffer.getvalue()).convert("RGB")
    encoded = _png(picture)
    if len(encoded) > _MOST_BYTES:
        encoded = _png(picture.quantize(256))
    write_file(path, encoded)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
