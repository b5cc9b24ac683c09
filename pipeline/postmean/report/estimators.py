"""The report of the estimators: Niedoba et al. 2024, Figures 2, 3, 6, 7, 8, 10, 11 and 12 on any store."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from postmean.base.extras import check_installed
from postmean.base.files import remove_leftovers, write_file
from postmean.base.paths import out_folder
from postmean.base.progress import NoProgress, ShowProgress
from postmean.contract.image_store import ImageStore
from postmean.estimators.estimate import Estimator
from postmean.report.cells import PARTS, Cell, CellStore
from postmean.report.evaluate import Evaluation
from postmean.report.grids import GridStore, make_grids
from postmean.report.settings import ReportSettings
from postmean.report.table import to_markdown, to_table, write_parquet


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report wrote."""

    out: str
    cells: int
    computed: int
    """Cells that were missing before"""
    files: list[str]


def report_estimators(
    store: ImageStore,
    out: Path,
    settings: ReportSettings,
    network: Estimator | None,
    network_key: str | None,
    progress: ShowProgress = NoProgress,
) -> Report:
    """Compute the cells that are missing, then write the table and the pictures.

    Args:
        network: a trained network as an estimator.
        network_key: identity of the network, such as a hash of its weights.
        progress: shows how many cells are computed, then how many noise levels are drawn.
    """
    check_installed("report", "matplotlib", "PIL")  # checked first: the pictures come last
    out = out_folder(out, "a report")
    has_network = network is not None
    remove_leftovers(out / PARTS)
    evaluation = Evaluation(store, settings, network)
    keep = CellStore(out, store.header.fingerprint, settings, network_key)
    sigmas = sorted(set(settings.sigmas))
    wanted = [(method, sigma) for sigma in sigmas for method in settings.methods(has_network)]
    missing = [pair for pair in wanted if keep.read(*pair) is None]
    with progress("report", len(wanted), "cells") as line:
        known = len(wanted) - len(missing)
        line.start_at(known)
        evaluation.cells(missing, keep, lambda done: line.update(known + done))
    cells = [cell for pair in wanted if (cell := keep.read(*pair)) is not None]
    grid_key = {"store": store.header.fingerprint, "settings": asdict(settings), "network": network_key}
    grid_store = GridStore(out, grid_key)
    grids = grid_store.read()
    if grids is None:
        with progress("images", len(settings.sigmas), "noise levels") as line:
            grids = make_grids(evaluation, has_network, line.update)
        grid_store.write(grids)
    about = {"name": Path(store.where).name, "shape": list(store.header.shape), "fingerprint": store.header.fingerprint}
    write_parquet(to_table(cells, settings, about), out / "estimators.parquet")
    write_file(out / "estimators.md", to_markdown(cells, settings, about, has_network).encode())
    files = ["estimators.parquet", "estimators.md", *_pictures(out, about["name"], settings, cells, grids, has_network)]
    return Report(out=str(out), cells=len(cells), computed=len(missing), files=files)


def _pictures(
    out: Path, name: str, settings: ReportSettings, cells: list[Cell], grids: dict[str, np.ndarray], has_network: bool
) -> list[str]:
    """Draw all pictures; returns their file names."""
    from postmean.report import pictures  # imported late: matplotlib takes a second

    main = pictures.curves(settings.main_methods(has_network), cells)
    pictures.error_picture(out / "estimators.svg", f"Estimators of the posterior mean: {name}", main)
    files = ["estimators.svg"]
    for n in settings.sweep_n:
        files.append(f"sweep-n{n}.svg")
        swept = pictures.curves(settings.sweep_methods(n), cells)
        pictures.error_picture(out / files[-1], f"Number of neighbours k at n = {n}: {name}", swept)
    if settings.index is not None:
        files.append("search.svg")
        searched = pictures.curves(settings.search_methods(), cells)
        pictures.search_picture(out / files[-1], f"Exact against approximate search: {name}", searched)
    for file, images in (("images-1.png", range(1)), ("images-2.png", range(1, settings.images))):
        if len(images):
            files.append(file)
            pictures.grid_picture(out / file, f"Posterior means: {name}", grids, images, settings.sigmas)
    return files
