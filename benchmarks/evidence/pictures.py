"""Pictures of the evidence: error by sigma, and Fréchet distance by step, a panel for each recipe."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from measures import SIGMAS
from scipy.stats import t as student

from postmean.report.vector import STYLE, save_vector, sigma_axis

_COLOURS = {"single": "#777777", "stf": "#e69f00", "knn-snis": "#56b4e9", "exact": "#d55e00"}
_MEANINGS = {"ict": "exact ODE's end", "ect": "exact ODE's end"}


def error_picture(path: Path, by_recipe: dict[str, dict[str, dict[int, dict[str, Any]]]]) -> None:
    """Error of each target over that of the usual target, seed by seed, with 95 % intervals."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(by_recipe), figsize=(2.4 * len(by_recipe) + 0.6, 2.7), squeeze=False)
        for axis, (recipe, results) in zip(axes[0], by_recipe.items(), strict=True):
            base = results.get("single", {})
            for label in (name for name in _COLOURS if name in results and name != "single"):
                seeds = sorted(results[label].keys() & base.keys())
                if not seeds:
                    continue
                ratio = np.array([np.divide(results[label][s]["errors"], base[s]["errors"]) for s in seeds])
                _band(axis, np.array(SIGMAS), ratio, label)
            axis.axhline(1, color=_COLOURS["single"], linewidth=0.8)
            axis.set_title(f"{recipe}: error to the {_MEANINGS.get(recipe, 'exact mean')}")
            sigma_axis(axis, SIGMAS)
        axes[0, 0].set_ylabel("error over that of the usual target")
        _save(figure, path)


def path_picture(path: Path, by_recipe: dict[str, dict[str, dict[int, dict[str, Any]]]]) -> None:
    """Fréchet distance by random features at each look."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(by_recipe), figsize=(2.4 * len(by_recipe) + 0.6, 2.7), squeeze=False)
        for axis, (recipe, results) in zip(axes[0], by_recipe.items(), strict=True):
            for label in (name for name in _COLOURS if name in results):
                looks = [r["path"] for r in results[label].values()]
                steps = np.array([look["step"] for look in looks[0]])
                _band(axis, steps, np.array([[x["frechet_random"] for x in look] for look in looks]), label)
            axis.set_title(recipe)
            axis.set_xlabel("training steps")
            axis.set_yscale("log")
        axes[0, 0].set_ylabel("Fréchet distance, random features")
        _save(figure, path)


def _band(axis: Any, x: np.ndarray, values_SN: np.ndarray, label: str) -> None:
    mean, n = values_SN.mean(0), len(values_SN)
    axis.plot(x, mean, "o-", color=_COLOURS[label], label=label, markersize=2.5)
    if n > 1:
        half = student.ppf(0.975, n - 1) * values_SN.std(0, ddof=1) / n**0.5
        axis.fill_between(x, mean - half, mean + half, color=_COLOURS[label], alpha=0.2, linewidth=0)


def _save(figure: Any, path: Path) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.legend(handles, labels, loc="lower center", ncols=4)
    save_vector(figure, path)
