"""The report of the hybrid sampler: Niedoba et al. 2024, Figure 5, on any store."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from postmean.base.extras import check_installed
from postmean.base.files import write_file
from postmean.base.paths import out_folder
from postmean.base.progress import NoProgress, ShowProgress
from postmean.contract.image_store import to_unit
from postmean.report.grids import GridStore
from postmean.report.hybrid import FORWARD, HYBRID, NETWORK, HybridImages
from postmean.report.hybrid_scores import HybridScores
from postmean.report.table import write_parquet

_SHOWN = 4
"""Images in the picture."""


@dataclass(frozen=True, kw_only=True)
class HybridReport:
    """What was drawn and written."""

    out: str
    rows: list[dict[str, float | str | None]]
    """method, sigma_switch (None for the network alone), frechet, nearest, fid (None without weights)."""
    files: list[str]


def report_hybrid(
    images: HybridImages, out: Path, network_key: str, weights: Path | None, progress: ShowProgress = NoProgress
) -> HybridReport:
    """Draw the images that the folder lacks, score them, and write the table and the pictures.

    Args:
        network_key: identity of the network, such as a hash of its weights.
        weights: Inception weights in torch-fidelity's format; None: no FID.
    """
    check_installed("report", "matplotlib", "PIL")  # now: the pictures come last
    out, settings, store = out_folder(out, "a report"), images.settings, images.store
    switches = sorted(set(settings.sigma_switch))
    wanted = [(NETWORK, None), *((method, sigma) for sigma in switches for method in (HYBRID, FORWARD))]
    scores, rows = HybridScores(store, weights, images.device), []
    pixels: dict[tuple[str, float | None], np.ndarray] = {}
    with progress("draw", len(wanted) * settings.count, "images") as line:
        for number, (method, sigma) in enumerate(wanted):
            kept = GridStore(
                out,
                {
                    "store": store.header.fingerprint,
                    "settings": asdict(settings) | {"sigma_switch": sigma, "method": method, "flips": images.flips},
                    "network": network_key,
                },
            )
            found = kept.read()
            if found is None:
                done = number * settings.count
                found = {"pixels": images.draw(method, sigma or 0.0, lambda n, done=done: line.update(done + n))}
                kept.write(found)
            pixels[method, sigma] = found["pixels"]
            line.update((number + 1) * settings.count)
    with progress("score", len(wanted), "sets of images") as line:
        for number, (method, sigma) in enumerate(wanted):
            found = scores.of(pixels[method, sigma])
            rows.append({"method": method, "sigma_switch": sigma, "fid": None} | found)
            line.update(number + 1)
    name = Path(store.where).name
    columns = {column: [row[column] for row in rows] for column in ("method", "sigma_switch", "frechet", "nearest")}
    table = pa.table(columns | {"fid": pa.array([row["fid"] for row in rows], pa.float64())})
    write_parquet(table, out / "hybrid.parquet")
    write_file(out / "hybrid.md", _markdown(name, images, rows).encode())
    _pictures(out, name, pixels, switches, rows)
    return HybridReport(
        out=str(out), rows=rows, files=["hybrid.parquet", "hybrid.md", "hybrid.svg", "hybrid-images.png"]
    )


def _markdown(name: str, images: HybridImages, rows: list[dict[str, float | str | None]]) -> str:
    settings = images.settings
    lines = [
        f"# Hybrid sampling of {name}",
        "",
        f"{settings.count} images each, {settings.steps} steps of Heun's method, seed {settings.seed}. hybrid: the "
        "probability-flow ODE by the exact posterior mean from prior noise down to sigma_switch, then the network. "
        "forward: a training image noised to sigma_switch, then the network. network: the network alone. frechet: "
        "Fréchet distance to the store by features of a fixed random network, which is no FID. nearest: root mean "
        "squared difference to the nearest image of the store, x in [-1, 1].",
        "",
        "| method | sigma_switch | frechet | nearest | FID |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        sigma, fid = ("" if row[key] is None else f"{row[key]:.4g}" for key in ("sigma_switch", "fid"))
        lines.append(f"| {row['method']} | {sigma} | {row['frechet']:.4g} | {row['nearest']:.3g} | {fid} |")
    return "\n".join([*lines, ""])


def _pictures(
    out: Path,
    name: str,
    pixels: dict[tuple[str, float | None], np.ndarray],
    switches: list[float],
    rows: list[dict[str, float | str | None]],
) -> None:
    from postmean.report.hybrid_picture import hybrid_picture  # imported late: matplotlib takes a second
    from postmean.report.pictures import grid_picture

    hybrid_picture(out / "hybrid.svg", f"Hybrid sampling: {name}", rows)
    grids = {
        method: np.stack([to_unit(pixels[method, None if method == NETWORK else s][:_SHOWN]) for s in switches], axis=1)
        for method in (HYBRID, FORWARD, NETWORK)
    }
    shown = range(min(_SHOWN, len(grids[NETWORK])))
    grid_picture(out / "hybrid-images.png", f"{name}: columns sigma_switch", grids, shown, switches)
