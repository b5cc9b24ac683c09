"""The table of a report: one row per method and sigma, as Parquet for programs and as Markdown for people."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from postmean.base.files import write_file
from postmean.base.serialise import to_dict
from postmean.report.cells import CELL_NUMBERS, Cell
from postmean.report.settings import Method, ReportSettings

_TEXT = ("estimator", "index", "source")
_ERRORS = ("mse", "mse_se", "bias2", "bias2_se", "variance", "variance_se")


def to_table(cells: Sequence[Cell], settings: ReportSettings, store: dict[str, Any]) -> pa.Table:
    """Columns estimator, k, n, m, index, nprobe, source, sigma, points, repeats, mean_*, score_* and other numbers.

    Args:
        store: name, shape and fingerprint of the data set, for the schema's metadata.
    """
    columns: dict[str, pa.Array] = {}
    for name in ("estimator", "k", "n", "m", "index", "nprobe", "source"):
        columns[name] = pa.array([getattr(c.method, name) for c in cells], pa.string() if name in _TEXT else pa.int64())
    columns["sigma"] = pa.array([c.sigma for c in cells], pa.float64())
    columns["points"] = pa.array([settings.points] * len(cells), pa.int64())
    columns["repeats"] = pa.array([1 if c.method.is_deterministic else settings.repeats for c in cells], pa.int64())
    for prefix, power in (("mean", 0), ("score", -4)):
        for name in _ERRORS:
            values = [getattr(c, name) * c.sigma**power for c in cells]
            columns[f"{prefix}_{name}"] = pa.array(values, pa.float64())
    for name in CELL_NUMBERS:
        if name not in _ERRORS:
            columns[name] = pa.array([getattr(c, name) for c in cells], pa.float64())
    about = {"settings": to_dict(settings), "store": store, "units": "per dimension; x in [-1, 1], score in 1/x"}
    return pa.table(columns).replace_schema_metadata({"postmean": json.dumps(about, sort_keys=True)})


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write the table; equal tables give equal bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_file(path, buffer.getvalue())


def to_markdown(cells: Sequence[Cell], settings: ReportSettings, store: dict[str, Any], has_network: bool) -> str:
    """The mean squared errors as tables: methods down, sigma across."""
    shape = "x".join(str(n) for n in store["shape"][1:])
    lines = [
        f"# Estimators of the posterior mean on {store['name']}",
        "",
        f"{store['shape'][0]:,} images of {shape}, fingerprint {store['fingerprint'][:12]}. {settings.points} points z "
        f"a sigma, {settings.repeats} repeats a point, seed {settings.seed}. Errors of the posterior mean against the "
        "exact one in float64, per dimension, x in [-1, 1]; of the score they are these over sigma^4. Standard errors, "
        "squared biases, variances and scores are in `estimators.parquet`.",
        "",
    ]
    main = settings.main_methods(has_network)
    variance = {c.sigma: c.posterior_variance for c in cells}
    sigmas = sorted(variance)
    lines += _heading("Mean squared error", sigmas)
    lines.append(_row("posterior variance (exact)", [f"{variance[s]:.1e}" for s in sigmas]))
    lines += [_numbers(m, cells, sigmas, "mse") for m in main] + [""]
    random = [m for m in main if not m.is_deterministic]
    lines += _heading("Squared bias (0 where it is below twice its standard error)", sigmas)
    lines += [_numbers(m, cells, sigmas, "bias2") for m in random] + [""]
    lines += _heading("Variance", sigmas) + [_numbers(m, cells, sigmas, "variance") for m in random] + [""]
    for n in settings.sweep_n:
        lines += _heading(f"Mean squared error, n = {n}", sigmas)
        lines += [_numbers(m, cells, sigmas, "mse") for m in settings.sweep_methods(n)] + [""]
    if settings.index is not None:
        lines += _heading("Exact against approximate search, mean squared error", sigmas)
        lines += [_numbers(m, cells, sigmas, "mse") for m in settings.search_methods()] + [""]
        lines += _heading(f"What {settings.index} with {settings.nprobe} probes finds of k = {settings.k}", sigmas)
        approximate = [m for m in settings.search_methods() if m.index == settings.index]
        for name, label in (
            ("recall", "recall of the k nearest"),
            ("neighbours_found", "neighbours found"),
            ("missed_mass", "posterior mass beyond those found"),
        ):
            lines.append(_numbers(approximate[0], cells, sigmas, name, label))
        for method in approximate:
            lines.append(_numbers(method, cells, sigmas, "estimated_tail", f"that mass as {method.estimator} takes it"))
        exact = next(m for m in settings.search_methods() if m.index == "exact")
        lines.append(_numbers(exact, cells, sigmas, "missed_mass", "posterior mass beyond the exact k nearest"))
        lines.append("")
    return "\n".join(lines)


def _heading(title: str, sigmas: Sequence[float]) -> list[str]:
    return [f"## {title}", "", _row("sigma", [f"{s:g}" for s in sigmas]), "|---|" + "---:|" * len(sigmas)]


def _numbers(method: Method, cells: Sequence[Cell], sigmas: Sequence[float], name: str, label: str = "") -> str:
    of = {c.sigma: c for c in cells if c.method == method}
    shown = []
    for sigma in sigmas:
        value = getattr(of[sigma], name)
        if name == "bias2" and value < 2 * of[sigma].bias2_se:
            value = 0.0
        if value == 0 or value >= 10:
            shown.append(f"{value:,.0f}")
        else:
            shown.append(f"{value:.2g}" if name in _SHARES else f"{value:.1e}")
    return _row(label or method.label, shown)


_SHARES = ("recall", "missed_mass", "estimated_tail")


def _row(first: str, values: Sequence[str]) -> str:
    return f"| {first} | " + " | ".join(values) + " |"
