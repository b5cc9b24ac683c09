"""The picture of a hybrid sampler: distance to the data over sigma_switch, as Niedoba et al. 2024, Figure 5."""

from pathlib import Path

from postmean.base.extras import needs
from postmean.report.hybrid import FORWARD, HYBRID, NETWORK
from postmean.report.vector import STYLE, save_vector, sigma_axis

with needs("report"):
    from matplotlib import pyplot as plt


def hybrid_picture(path: Path, title: str, rows: list[dict[str, float | str | None]]) -> None:
    """Fréchet distance (FID where all rows have it), and distance to the nearest image of the data."""
    quality = "frechet" if any(row["fid"] is None for row in rows) else "fid"
    titles = {"frechet": "Fréchet distance, random features", "fid": "FID", "nearest": "distance to the nearest image"}
    switches = sorted({float(row["sigma_switch"] or 0) for row in rows if row["sigma_switch"] is not None})
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(8.2, 3.1))
        for axis, name in zip(axes, (quality, "nearest"), strict=True):
            for method, style in ((HYBRID, "o-"), (FORWARD, "s--"), (NETWORK, "k:")):
                values = [float(row[name] or 0) for row in rows if row["method"] == method]
                if method == NETWORK:
                    axis.axhline(values[0], color="#555555", linestyle=":", label="network alone")
                else:
                    axis.plot(switches, values, style, label=method)
            axis.set_title(titles[name])
            sigma_axis(axis, switches)
            axis.set_xlabel(r"$\sigma_{switch}$")
        axes[0].legend()
        figure.suptitle(title, fontsize=9)
        figure.tight_layout()
        save_vector(figure, path)
