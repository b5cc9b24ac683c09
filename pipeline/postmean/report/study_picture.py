"""The picture of a study: error over k at each sigma, a line for each n, and error over sigma by beta."""

from collections.abc import Sequence
from pathlib import Path

from postmean.base.extras import needs
from postmean.report.study import StudyPoint
from postmean.report.vector import STYLE, save_vector, sigma_axis

with needs("report"):
    from matplotlib import pyplot as plt

_MOST_PANELS, _COLUMNS = 7, 4


def study_picture(path: Path, title: str, points: Sequence[StudyPoint]) -> None:
    """Panels of the noise levels with the largest errors, and one of beta with the largest k and n."""
    swept = [p for p in points if p.method.k is not None]
    worst = {s: max(p.mse for p in swept if p.sigma == s) for s in {p.sigma for p in swept}}
    shown = sorted(sorted(worst, key=lambda s: -worst[s])[:_MOST_PANELS])
    drawn = [p.mse for p in swept if p.sigma in shown and p.method.beta is None]
    with plt.rc_context(STYLE):
        rows = -(-(len(shown) + 1) // _COLUMNS)
        figure, grid = plt.subplots(rows, _COLUMNS, figsize=(9.0, 2.6 * rows), squeeze=False)
        axes = grid.ravel()
        for axis in axes[len(shown) + 1 :]:
            axis.set_axis_off()
        for axis, sigma in zip(axes, shown, strict=False):
            here = [p for p in swept if p.sigma == sigma and p.method.beta is None]
            for n in sorted({p.method.n or 0 for p in here}):
                line = sorted((p for p in here if p.method.n == n), key=lambda p: p.method.k or 0)
                axis.errorbar(
                    [p.method.k for p in line],
                    [p.mse for p in line],
                    [2 * p.mse_se for p in line],
                    marker="o",
                    label=f"n {n}",
                )
            ks = sorted({p.method.k or 0 for p in here})
            axis.set_xscale("log", base=2)
            axis.set_xticks(ks, [str(k) for k in ks])
            axis.set_yscale("log")
            axis.set_ylim(min(drawn) / 2, max(drawn) * 2)
            axis.set_title(rf"$\sigma$ = {sigma:g}")
            axis.set_xlabel("neighbours k")
        for first in grid[:, 0]:
            first.set_ylabel("mean squared error per dimension")
        axes[0].legend()
        _betas(axes[len(shown)], points)
        figure.suptitle(title, fontsize=9)
        figure.tight_layout()
        save_vector(figure, path)


def _betas(axis: plt.Axes, points: Sequence[StudyPoint]) -> None:  # type: ignore[name-defined]
    swept = [p for p in points if p.method.k is not None]
    k, n = max(p.method.k or 0 for p in swept), max(p.method.n or 0 for p in swept)
    lines = {"beta 0 (usual)": [p for p in points if p.method.estimator == "single-sample"]}
    for p in (p for p in swept if (p.method.k, p.method.n) == (k, n)):
        lines.setdefault(f"beta {1 if p.method.beta is None else p.method.beta:g}", []).append(p)
    for label, line in lines.items():
        line = sorted(line, key=lambda p: p.sigma)
        axis.plot([p.sigma for p in line], [max(p.mse, 1e-14) for p in line], "o-", label=label)
    axis.set_yscale("log")
    sigma_axis(axis, [p.sigma for p in points])
    axis.set_title(f"k {k}, n {n}")
    axis.legend()
