"""The picture of a loss floor: the floor over sigma, and where the noise loses the image."""

from pathlib import Path
from typing import Any

import numpy as np

from postmean.base.extras import needs
from postmean.contract.noise import FloorNoise
from postmean.report.floor import FloorPoint
from postmean.report.vector import STYLE, save_vector, sigma_axis

with needs("report"):
    from matplotlib import pyplot as plt


def floor_picture(path: Path, title: str, points: list[FloorPoint], dim: int, noise: FloorNoise | None) -> None:
    """Floor with two standard errors and the certificate's bound; D floor / sigma^2; the density of --noise floor."""
    sigma, floor, error, bound = (
        np.array([getattr(p, name) for p in points]) for name in ("sigma", "floor", "standard_error", "bound")
    )
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(8.2, 3.1))
        left, right = axes
        seen = floor > 0
        left.fill_between(
            sigma[seen], np.maximum(floor - 2 * error, 1e-14)[seen], (floor + 2 * error)[seen], alpha=0.25
        )
        left.plot(sigma[seen], floor[seen], "o-", label="E Var(x | z, sigma)")
        if (bound > 0).any():
            left.plot(sigma[bound > 0], bound[bound > 0], ":", color="#555555", label="certified images: at most")
        left.set_yscale("log")
        left.set_ylim(1e-12, 2)
        left.set_title("loss floor per dimension")
        left.legend(loc="lower right")
        _density(right, sigma, dim * floor / sigma**2, noise)
        for axis in axes:
            sigma_axis(axis, sigma.tolist())
        figure.suptitle(title, fontsize=9)
        figure.tight_layout()
        save_vector(figure, path)


def _density(axis: Any, sigma: np.ndarray, rate: np.ndarray, noise: FloorNoise | None) -> None:
    total = float(np.trapezoid(rate, np.log(sigma))) or 1.0
    axis.plot(sigma, rate / total, "o-", label=f"D floor / sigma$^2$, over its integral {total:.2f} nats")
    if noise is not None:
        axis.plot(noise.sigma, noise.density, "--", color="#d55e00", label="--noise floor")
    axis.set_title(r"density of ln $\sigma$")
    axis.set_ylim(0, 1.35 * axis.get_ylim()[1])
    axis.legend(loc="upper right")
