"""A study of the training target: its error by sigma over k, n and beta, averaged over seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa

from postmean.base.checks import check_at_least
from postmean.base.errors import ConfigError
from postmean.base.extras import check_installed
from postmean.base.files import remove_leftovers, write_file
from postmean.base.paths import out_folder
from postmean.base.progress import NoProgress, ShowProgress
from postmean.contract.image_store import ImageStore
from postmean.report.cells import PARTS, CellStore
from postmean.report.evaluate import Evaluation
from postmean.report.settings import Method, ReportSettings
from postmean.report.table import write_parquet


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """What is swept, and how much is measured."""

    k: tuple[int, ...]
    """Neighbours of knn-snis."""
    n: tuple[int, ...]
    """Draws of knn-snis."""
    beta: tuple[float, ...]
    """target = x + beta (estimate - x)"""
    seeds: tuple[int, ...]
    """Each has its own images, eps and draws."""
    sigmas: tuple[float, ...]
    points: int = 16
    """Noisy images at each sigma and seed."""
    repeats: int = 4
    """Evaluations of the estimator at each."""
    flips: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, values in (("k", self.k), ("n", self.n), ("seeds", self.seeds), ("beta", self.beta)):
            if not values:
                raise ConfigError(f"--{name}: expected at least one value")
        if not all(0 <= beta <= 1 for beta in self.beta):
            raise ConfigError(f"--beta: expected numbers from 0 to 1, got {self.beta}")
        check_at_least(self, "points", 2)
        self.of_seed(self.seeds[0])  # checks the rest

    def of_seed(self, seed: int) -> ReportSettings:
        """The settings of one seed's evaluation."""
        return ReportSettings(
            points=self.points,
            repeats=self.repeats,
            sigmas=self.sigmas,
            k=max(self.k),
            sweep_k=self.k,
            sweep_n=self.n,
            images=1,
            seed=seed,
            flips=self.flips,
            device=self.device,
        )

    def methods(self) -> list[Method]:
        """The swept methods, and the usual target."""
        snis = Method(estimator="knn-snis", index="exact")
        swept = [replace(snis, k=k, n=n, beta=_plain(b)) for b, k, n in product(self.beta, self.k, self.n)]
        return list(dict.fromkeys([Method(estimator="single-sample", source="fixed"), *swept]))


@dataclass(frozen=True, kw_only=True)
class StudyPoint:
    """One method at one sigma. Errors are of the target against the exact mean, per dimension, over the seeds."""

    method: Method
    sigma: float
    mse: float
    mse_se: float
    """Standard error over the seeds; 0 with one seed"""
    bias2: float
    variance: float


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """What a study wrote."""

    out: str
    cells: int
    computed: int
    """Cells that were missing before"""
    files: list[str]


def study(store: ImageStore, out: Path, settings: StudySettings, progress: ShowProgress = NoProgress) -> StudyReport:
    """Compute the cells that are missing, seed by seed, then write the table and the pictures."""
    check_installed("report", "matplotlib")
    out = out_folder(out, "a study")
    remove_leftovers(out / PARTS)
    wanted = [(method, sigma) for sigma in sorted(set(settings.sigmas)) for method in settings.methods()]
    keeps = {seed: CellStore(out, store.header.fingerprint, settings.of_seed(seed), None) for seed in settings.seeds}
    missing = {seed: [pair for pair in wanted if keep.read(*pair) is None] for seed, keep in keeps.items()}
    total, left = len(wanted) * len(keeps), sum(map(len, missing.values()))
    with progress("study", total, "cells") as line:
        line.start_at(total - left)
        done = total - left
        for seed, pairs in missing.items():
            if pairs:
                evaluation, before = Evaluation(store, settings.of_seed(seed)), done
                evaluation.cells(pairs, keeps[seed], lambda count, before=before: line.update(before + count))
                done += len(pairs)
    points = [_average(keeps.values(), *pair) for pair in wanted]
    files = ["study.parquet", "study.md", "study.svg"]
    write_parquet(_table(points), out / files[0])
    write_file(out / files[1], _markdown(store, settings, points).encode())
    from postmean.report.study_picture import study_picture  # imported late: matplotlib takes a second

    study_picture(out / files[2], f"Error of the target: {store.path.name}", points)
    return StudyReport(out=str(out), cells=total, computed=left, files=files)


def _average(keeps: Iterable[CellStore], method: Method, sigma: float) -> StudyPoint:
    cells = [cell for keep in keeps if (cell := keep.read(method, sigma)) is not None]
    mse = np.array([cell.mse for cell in cells])
    return StudyPoint(
        method=method,
        sigma=sigma,
        mse=float(mse.mean()),
        mse_se=float(mse.std(ddof=1) / len(mse) ** 0.5) if len(mse) > 1 else 0.0,
        bias2=float(np.mean([cell.bias2 for cell in cells])),
        variance=float(np.mean([cell.variance for cell in cells])),
    )


def _plain(beta: float) -> float | None:
    return None if beta == 1 else beta


def _table(points: Sequence[StudyPoint]) -> pa.Table:
    return pa.table(
        {
            "estimator": pa.array([p.method.estimator for p in points], pa.string()),
            **{name: pa.array([getattr(p.method, name) for p in points], pa.int64()) for name in ("k", "n")},
            "beta": pa.array([_beta(p.method) for p in points], pa.float64()),
            **{
                name: pa.array([getattr(p, name) for p in points], pa.float64())
                for name in ("sigma", "mse", "mse_se", "bias2", "variance")
            },
        }
    )


def _beta(method: Method) -> float:
    """0 for the usual target."""
    return 0.0 if method.estimator == "single-sample" else 1.0 if method.beta is None else method.beta


def _markdown(store: ImageStore, settings: StudySettings, points: Sequence[StudyPoint]) -> str:
    sigmas = sorted({p.sigma for p in points})
    lines = [
        f"# Error of the training target on {store.path.name}",
        "",
        f"{len(store):,} images. Mean squared error per dimension of x + beta (estimate - x) against the exact mean in "
        f"float64; {settings.points} points a sigma and seed, {settings.repeats} repeats, {len(settings.seeds)} seeds. "
        "Standard errors over the seeds, squared biases and variances are in `study.parquet`.",
        "",
        "| target | " + " | ".join(f"{s:g}" for s in sigmas) + " |",
        "|---|" + "---:|" * len(sigmas),
    ]
    for method in settings.methods():
        label = "the usual target" if method.estimator == "single-sample" else method.label
        values = {p.sigma: p.mse for p in points if p.method == method}
        lines.append(f"| {label} | " + " | ".join(f"{values[s]:.1e}" for s in sigmas) + " |")
    return "\n".join([*lines, ""])
