"""The page of the evidence: tables, pictures and a Parquet file of what the cells hold."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from cells import RECIPES, Cell, distillation
from measures import SIGMAS
from pictures import error_picture, path_picture
from scipy.stats import t as student

from postmean.base.files import write_file
from postmean.report.table import write_parquet

Results = dict[str, dict[int, dict[str, Any]]]
"""Label of the target -> seed -> result."""
_MEASURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "Fréchet, random features": lambda r: r["path"][-1]["frechet_random"],
    "Fréchet, classifier": lambda r: r["path"][-1]["frechet_classifier"],
    "gradient covariance": lambda r: r["gradient_trace"],
    "error, all σ": lambda r: float(np.mean(r["errors"])),
    "distance to the nearest training image": lambda r: r["path"][-1]["nearest"],
}


def write_page(out: Path, page: Path, data: str, cells: Sequence[Cell]) -> None:
    """Write page/DATA.md, its pictures and DATA.parquet from the cells that are there."""
    page.mkdir(parents=True, exist_ok=True)
    found = {cell: result for cell in cells if (result := cell.read(out)) is not None}
    real = Cell(data=data, recipe="real", target="real", seed=0).read(out)
    if real is None or not found:
        print(f"{out}: no cells of {data} yet")
        return
    write_parquet(pa.Table.from_pylist(list(_rows(found))), page / f"{data}.parquet")
    settings = min(found, key=lambda cell: cell.steps)
    lines = [
        f"# Evidence: {data}",
        "",
        f"{len(found)} trainings of {settings.steps} steps of {settings.batch} tuples, written by "
        f"`python benchmarks/evidence`; one row a number in `{data}.parquet`. Mean over the seeds, and in brackets the "
        "95 % interval of the mean (Student's t). Changes are against `single`, the usual target, seed by seed: the "
        "same tuples, first weights and noise of the samples. Bold: the interval excludes 0.",
        "",
        f"Held-out images, in place of samples: Fréchet distance {real['frechet_random']:.3f} by random features, "
        f"{real['frechet_classifier']:.3f} by the classifier, distance to the nearest training image "
        f"{real['nearest']:.3f}.",
        "",
    ]
    by_recipe: dict[str, Results] = {}
    distilled = _distilled(found)
    for cell, result in found.items():
        if cell.noise in ("18 levels", "to 0", "8 4 2 1") or cell.steps != settings.steps:
            continue  # of the distillation alone
        by_recipe.setdefault(cell.recipe, {}).setdefault(cell.label, {})[cell.seed] = result
    for recipe in (r for r in RECIPES if r in by_recipe):
        lines += _recipe(recipe, by_recipe[recipe])
    if distilled:
        lines += _one_step(distilled)
    lines += [f"![Error by sigma]({data}-errors.svg)", "", f"![Fréchet distance by step]({data}-path.svg)", ""]
    write_file(page / f"{data}.md", "\n".join(lines).encode())
    error_picture(page / f"{data}-errors.svg", by_recipe)
    path_picture(page / f"{data}-path.svg", by_recipe)
    print(f"{page}: {len(found)} of {len(cells)} cells")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half of its 95 % interval; nan for the half of a single value."""
    n = len(values)
    half = student.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5 if n > 1 else np.nan
    return float(np.mean(values)), float(half)


def changes(ours: dict[int, dict], base: dict[int, dict], measure: Callable[[dict], float]) -> list[float]:
    """Relative change of a measure, of each seed that both have."""
    return [measure(ours[seed]) / measure(base[seed]) - 1 for seed in sorted(ours.keys() & base.keys())]


def steps_to_equal(ours: dict[str, Any], base: dict[str, Any]) -> float:
    """Steps, over those of `base`, after which the Fréchet distance (random features) is that of base's end; at most
    1.0 where it is reached, between two looks by a straight line; inf where it is not."""
    goal, steps = base["path"][-1]["frechet_random"], base["path"][-1]["step"]
    before: tuple[float, float] | None = None
    for look in ours["path"]:
        at, value = look["step"], look["frechet_random"]
        if value <= goal:
            if before is None or before[1] == value:
                return at / steps
            return (before[0] + (at - before[0]) * (before[1] - goal) / (before[1] - value)) / steps
        before = (at, value)
    return float("inf")


def _rows(found: dict[Cell, dict[str, Any]]) -> Any:
    for cell, result in found.items():
        common = asdict(cell) | {"label": cell.label}
        for name in ("gradient_trace", "seconds", "target_seconds"):
            yield common | {"step": cell.steps, "measure": name, "sigma": None, "value": result[name]}
        for name in ("errors", "held_out"):
            for sigma, value in zip(SIGMAS, result.get(name, []), strict=False):
                yield common | {"step": cell.steps, "measure": name, "sigma": sigma, "value": value}
        for look in result["path"]:
            for name in ("frechet_random", "frechet_classifier", "nearest", "copies"):
                yield common | {"step": look["step"], "measure": name, "sigma": None, "value": look[name]}


def _recipe(recipe: str, results: Results) -> list[str]:
    base = results.get("single", {})
    error = "to the end of the exact ODE" if recipe in ("ict", "ect") else "to the exact mean"
    lines = [f"## {recipe}", "", "| target | seeds | " + " | ".join(_MEASURES) + " | steps to equal quality |"]
    lines.append("|---|---:|" + "---:|" * (len(_MEASURES) + 1))
    for label, of in results.items():
        cells = []
        for measure in _MEASURES.values():
            mean, half = interval([measure(r) for r in of.values()])
            cells.append(f"{mean:.4g} (±{half:.1g})" if label == "single" else _change(changes(of, base, measure)))
        reached = [steps_to_equal(of[s], base[s]) for s in sorted(of.keys() & base.keys())]
        median = float(np.median(reached)) if reached else np.inf
        cells.append("1" if label == "single" else f"{median:.2f}" if np.isfinite(median) else "not reached")
        lines.append(f"| {label} | {len(of)} | " + " | ".join(cells) + " |")
    for name, title in (("errors", f"Error {error}"), ("held_out", "Error of denoising held-out images")):
        if any(name in r for r in base.values()):
            lines += ["", f"{title}, by σ:", "", "| target | " + " | ".join(f"{s:g}" for s in SIGMAS) + " |"]
            lines.append("|---|" + "---:|" * len(SIGMAS))
            lines += [_by_sigma(label, of, base, name) for label, of in results.items()]
    return [*lines, ""]


def _distilled(found: dict[Cell, dict[str, Any]]) -> Results:
    """The one-step models of the seeds that have all of them: what makes them -> seed -> result."""
    by_name: Results = {}
    any_cell = min(found, key=lambda cell: cell.steps)
    for seed in sorted({cell.seed for cell in found}):
        models = distillation(replace(any_cell, seed=seed))
        if all(one in found for one in models.values()):
            for name, one in models.items():
                by_name.setdefault(name, {})[seed] = found[one]
    return by_name


_ONE_STEP: dict[str, Callable[[dict[str, Any]], float]] = {
    "Fréchet, random features": lambda r: r["path"][-1]["frechet_random"],
    "Fréchet, classifier": lambda r: r["path"][-1]["frechet_classifier"],
    "error to the exact ODE's end, σ 12": lambda r: r["errors"][SIGMAS.index(12.0)] if "errors" in r else np.nan,
    "distance to the nearest training image": lambda r: r["path"][-1]["nearest"],
    "copies": lambda r: r["path"][-1]["copies"],
    "seconds for targets": lambda r: r["target_seconds"],
    "seconds in all": lambda r: r["seconds"],
}


def _one_step(results: Results) -> list[str]:
    lines = ["## Distillation from scratch", "", "One-step models; values, not changes.", ""]
    lines += ["| made by | seeds | " + " | ".join(_ONE_STEP) + " |", "|---|---:|" + "---:|" * len(_ONE_STEP)]
    for name, of in results.items():
        found = [interval([measure(r) for r in of.values()]) for measure in _ONE_STEP.values()]
        cells = ["–" if np.isnan(mean) else f"{mean:.3g} (±{half:.1g})".replace(" (±nan)", "") for mean, half in found]
        lines.append(f"| {name} | {len(of)} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _by_sigma(label: str, of: dict[int, dict], base: dict[int, dict], name: str) -> str:
    shown = []
    for i in range(len(SIGMAS)):
        if label == "single":
            shown.append(f"{np.mean([r[name][i] for r in of.values()]):.2g}")
        else:
            shown.append(_change(changes(of, base, lambda r, i=i: r[name][i]), short=True))
    return f"| {label} | " + " | ".join(shown) + " |"


def _change(values: Sequence[float], short: bool = False) -> str:
    if not values:
        return "–"
    mean, half = interval(values)
    text = f"{100 * mean:+.1f} %" if short else f"{100 * mean:+.1f} % (±{100 * half:.1f})"
    return f"**{text}**" if abs(mean) > half else text
