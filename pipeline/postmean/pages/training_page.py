"""The page of a training run: progress, loss, gradient, speed, scores, grids of samples."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from postmean.base.errors import DataError
from postmean.base.json_files import JsonError, parse_json
from postmean.base.paths import local_path
from postmean.base.progress import byte_size, duration
from postmean.pages import charts
from postmean.pages.page import Chart, Page, Picture, Section, Table

_POINTS = 150
"""Points of a curve at most: more lines are averaged."""
_GRIDS = 6
"""Grids shown at most: the first, the last, and some between."""
_SCORES = ("fid", "kid", "precision", "recall", "inception_score")
_BY_SIGMA = {
    "loss_by_sigma": "Mean loss by σ",
    "floor_by_sigma": "Floor of the loss by σ",
    "excess_by_sigma": "Loss above its floor by σ",
}
_STEPS = {
    "gradient_norm": ("Norm of the gradient", True),
    "lr": ("Learning rate", False),
    "images_per_second": ("Images a second", False),
    "data_wait_share": ("Share of the time that waits for targets", False),
}
_ELSEWHERE = {"step", "time", "kimg", "loss", "ema_decay", "noise_stage", "peak_memory_bytes", "scores"}
"""Values of a line that are shown elsewhere or not at all; what is in none of these is a metric of the user's own."""

Lines = list[dict[str, Any]]


def training_page(run: Path) -> Page:
    """The page of the training run in a folder, as it is now.

    Raises:
        DataError: no training run there, or config.json is damaged.
    """
    out = local_path(run)
    config, lines = _config(out), _lines(out)
    sections = [_progress(config, lines, out)]
    if lines:
        sections += [*_curves(lines), _scores(lines, out), _own(lines), _grids(out, config)]
    steps = config["config"]["steps"]
    done = bool(lines) and lines[-1]["step"] >= steps
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Page(
        title=str(run),
        state="finished" if done else "not finished",
        sections=[section for section in sections if section is not None],
        footer=f"postmean, {now}",
    )


def _config(out: Path) -> dict[str, Any]:
    path = out / "config.json"
    try:
        plain = parse_json(path.read_bytes())
        for name in ("steps", "batch_size"):
            int(plain["config"][name])
        return plain
    except FileNotFoundError as error:
        raise DataError(f"{out}: no training run: pass the --out folder of `postmean train`") from error
    except (JsonError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not the config of a training run ({error})") from error


def _lines(out: Path) -> Lines:
    """The whole lines of metrics.jsonl."""
    path, found = out / "metrics.jsonl", []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            plain = parse_json(line)
            for name in ("step", "kimg", "loss"):
                float(plain[name])
            found.append(plain)
        except (JsonError, KeyError, TypeError, ValueError):
            continue  # cut off by a kill: the next call of train drops it
    return found


def _progress(config: dict[str, Any], lines: Lines, out: Path) -> Section:
    recipe = config["config"]
    steps, batch_size = recipe["steps"], recipe["batch_size"]
    last = lines[-1] if lines else {"step": 0, "kimg": 0.0}
    facts = [
        ("steps", f"{last['step']:,} of {steps:,}"),
        ("images seen", f"{round(last['kimg'] * 1000):,} of {steps * batch_size:,}"),
        ("batch", f"{batch_size:,}"),
    ]
    for part in ("loss", "network", "optimiser"):
        kind = (recipe.get(part) or {}).get("kind")
        facts += [(part, str(kind))] if kind else []
    if lines:
        speed = np.median([line["images_per_second"] for line in lines[-20:]])
        facts += [
            ("images a second", f"{speed:,.0f}"),
            ("mean loss", f"{last['loss']:.4g}"),
        ]
        if last["step"] < steps and speed > 0:
            facts.append(("left at this speed", duration((steps - last["step"]) * batch_size / speed)))
        if last.get("peak_memory_bytes"):
            facts.append(("most memory", byte_size(last["peak_memory_bytes"])))
        if last.get("time"):
            facts.append(("last line", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(last["time"]))))
    if (out / "best").is_symlink():
        facts.append(("best model", f"models/{(out / 'best').readlink().name}"))
    return Section(title="Progress", share=min(1.0, last["step"] / steps), facts=facts)


def _curves(lines: Lines) -> list[Section]:
    if len(lines) == 1:  # a curve needs two
        return [Section(title="Loss", text="One line of metrics, shown above: curves begin with the second.")]
    return [_loss(lines), _steps(lines)]


def _loss(lines: Lines) -> Section:
    drawn = [_chart(lines, {"loss": _column(lines, "loss")}, "Mean loss", log_y=True)]
    for name, title in _BY_SIGMA.items():
        bins = sorted({b for line in lines for b in line.get(name) or ()}, key=lambda b: float(b.split("..")[0]))
        if bins:
            curves = {
                _range_of_sigma(b): np.array([(line.get(name) or {}).get(b, np.nan) for line in lines]) for b in bins
            }
            drawn.append(_chart(lines, curves, title, log_y=name == "loss_by_sigma"))
    stages = [line.get("noise_stage") for line in lines]
    text = "" if stages[-1] is None else f"The curriculum is in stage {stages[-1]}, counted from 0."
    return Section(title="Loss", text=text, charts=drawn)


def _steps(lines: Lines) -> Section:
    drawn = [
        _chart(lines, {title: _column(lines, name)}, title, log_y=log_y)
        for name, (title, log_y) in _STEPS.items()
        if any(line.get(name) is not None for line in lines)
    ]
    return Section(title="Steps", charts=drawn)


def _scores(lines: Lines, out: Path) -> Section | None:
    scored = [line for line in lines if isinstance(line.get("scores"), dict)]
    if not scored:
        return None
    best = min(scored, key=lambda line: line["scores"]["fid"])
    rows = [
        [f"step {line['step']:,}" + (", best" if line is best else ""), *(f"{line['scores'][s]:.4g}" for s in _SCORES)]
        for line in scored[-12:]
    ]
    if best not in scored[-12:]:
        rows.insert(0, [f"step {best['step']:,}, best", *(f"{best['scores'][s]:.4g}" for s in _SCORES)])
    drawn = [_chart(scored, {"FID": np.array([line["scores"]["fid"] for line in scored])}, "FID", log_y=True)]
    both = {name: np.array([line["scores"][name] for line in scored]) for name in ("precision", "recall")}
    drawn.append(_chart(scored, both, "Precision and recall"))
    images, references = scored[-1]["scores"]["images"], scored[-1]["scores"]["reference_images"]
    return Section(
        title="Scores",
        text=f"{images:,} samples against {references:,} images of the store.",
        table=Table(heads=["", "FID", "KID", "precision", "recall", "Inception Score"], rows=rows),
        charts=drawn,
    )


def _own(lines: Lines) -> Section | None:
    """The metrics that were given to `train`: numbers, or numbers by name."""
    known = _ELSEWHERE | _BY_SIGMA.keys() | _STEPS.keys()
    drawn = []
    for name in dict.fromkeys(name for line in lines for name in line if name not in known):
        measured = [line for line in lines if name in line]
        trees = [value if isinstance(value := line[name], dict) else {name: value} for line in measured]
        parts = [part for part in trees[-1] if isinstance(trees[-1][part], int | float)]
        if parts:
            curves = {part: np.array([float(tree.get(part, np.nan)) for tree in trees]) for part in parts}
            drawn.append(_chart(measured, curves, name))
    return Section(title="Metrics", charts=drawn) if drawn else None


def _grids(out: Path, config: dict[str, Any]) -> Section:
    title = "Samples"
    files = sorted((out / "grids").glob("[0-9]*.png"))
    if not files:
        return Section(title=title, text="No grids of samples: `--grid-kimg` draws them.")
    shown = sorted({round(place) for place in np.linspace(0, len(files) - 1, _GRIDS)}, reverse=True)
    batch_size = config["config"]["batch_size"]
    grids = []
    for file in (files[number] for number in shown):
        step = int(file.stem)
        name = f"step {step:,}, {step * batch_size:,} images"
        grids.append(Picture(png=file.read_bytes(), name=name))
    text = f"{len(grids)} of {len(files)} grids, the newest first; each from the same noise."
    return Section(title=title, text=text, grids=grids)


def _range_of_sigma(name: str) -> str:
    """`0.2..1` of metrics.jsonl as a legend has it."""
    low, high = name.split("..")
    return f"σ < {high}" if low == "0" else f"σ > {low}" if high == "inf" else f"σ {low} to {high}"


def _column(lines: Lines, name: str) -> np.ndarray:
    return np.array([np.nan if line.get(name) is None else line[name] for line in lines], np.float64)


def _chart(lines: Lines, curves: dict[str, np.ndarray], title: str, log_y: bool = False) -> Chart:
    x = _column(lines, "kimg")
    groups = np.array_split(np.arange(len(x)), min(_POINTS, len(x)))
    drawn = {name: np.array([_mean(y[g]) for g in groups]) for name, y in curves.items()}
    first = next(iter(drawn.values()))
    known = first[np.isfinite(first)]
    alt = f"{title}: from {known[0]:.4g} to {known[-1]:.4g}." if len(known) else f"{title}: nothing yet."
    positive = all((y[np.isfinite(y)] > 0).all() for y in drawn.values())
    svg = charts.curves(
        np.array([x[g].mean() for g in groups]), drawn, "thousand images", log_x=False, log_y=log_y and positive
    )
    return Chart(svg=svg, title=title, alt=alt)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
