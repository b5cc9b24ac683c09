"""Sections of the page of a run: quality of the records by sigma, certified share, what verification found."""

import numpy as np

from postmean.contract.manifest import Manifest
from postmean.pages import charts
from postmean.pages.page import Chart, Section, Table
from postmean.pages.samples import RecordSample, TupleSample
from postmean.runs.verify import VerifyReport

_BIN = 2**0.5
"""Ratio of the sigmas of a bin's ends."""
_FEWEST = 8
"""Records of a bin that is drawn."""
_NO_TAIL, _NO_VARIANCE = 1e-12, 1e-8
"""Where a tail mass of 0, and a variance of almost 0, are drawn on a logarithmic axis."""


def quality_section(sample: RecordSample) -> Section:
    """ESS, variance, share of sparse means and tail mass over sigma."""
    title = "Quality of the records by σ"
    if not len(sample):
        return Section(title=title, text="No record could be read yet.")
    sigma, columns = sample.columns["sigma"], sample.columns
    middle, rows = _bins(sigma)
    if not rows:
        return Section(title=title, text=f"{len(sample):,} records: too few to draw.")

    def quantiles(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        low, half, high = (np.array([np.quantile(columns[name][r], q) for r in rows]) for q in (0.1, 0.5, 0.9))
        return low, half, high

    ess = quantiles("ess")
    low, half, high = (np.maximum(values, _NO_VARIANCE) for values in quantiles("variance"))
    variance = (low, half, high)
    tail = {
        "mean": np.array([columns["tail_mass"][r].mean() for r in rows]),
        "largest": np.array([columns["tail_mass"][r].max() for r in rows]),
    }
    sparse = np.array([(columns["count"][r] >= 0).mean() for r in rows])
    drawn = [
        Chart(
            svg=charts.band(middle, *ess, "σ", log_y=True),
            title="Effective sample size (ESS)",
            alt=f"ESS, median: {ess[1][0]:.3g} at σ {middle[0]:.2g}, {ess[1][-1]:.3g} at σ {middle[-1]:.2g}.",
        ),
        Chart(
            svg=charts.band(middle, *variance, "σ", log_y=True),
            title="Posterior variance per dimension",
            alt=f"Variance from {variance[1][0]:.1e} to {variance[1][-1]:.1e} in the median.",
        ),
    ]
    shards = "one shard" if sample.shards == 1 else f"{sample.shards} shards"
    text = f"{len(sample):,} records of {shards}. A variance below 10⁻⁸ is drawn at 10⁻⁸."
    if sparse.any():
        sparse_chart = Chart(
            svg=charts.curves(middle, {"sparse": sparse}, "σ", top=1.0),
            title="Share of sparse means",
            alt=f"From {sparse[0]:.0%} at low σ to {sparse[-1]:.0%} at high σ.",
        )
        drawn.append(sparse_chart)
    else:
        text += " All means are dense."
    if sample.damaged:
        text += f" {sample.damaged} more shards could not be read: run `postmean verify`."
    if not columns["tail_mass"].any():
        return Section(title=title, text=f"{text} Their tail mass is 0: each posterior was enumerated.", charts=drawn)
    tail_chart = Chart(
        svg=charts.curves(middle, {k: np.maximum(v, _NO_TAIL) for k, v in tail.items()}, "σ", log_y=True),
        title="Tail mass (10⁻¹² stands for 0)",
        alt=f"At most {max(tail['largest']):.1e} of the posterior mass was not enumerated.",
    )
    return Section(title=title, text=text, charts=[*drawn, tail_chart])


def certified_section(sample: TupleSample, manifest: Manifest) -> Section:
    """The share of tuples that the trainer makes itself, over sigma."""
    title = "Certified share"
    if manifest.shards.self_contained or not manifest.estimator.certificate:
        return Section(title=title, text="Every tuple of this run is a record.")
    middle, rows = _bins(sample.sigma)
    share = np.array([sample.certified[r].mean() for r in rows])
    return Section(
        title=title,
        text=f"The trainer itself makes {sample.certified.mean():.1%} of the tuples ({len(sample.sigma):,} sampled).",
        charts=[
            Chart(
                svg=charts.curves(middle, {"certified": share}, "σ", top=1.0),
                title="Certified share by σ",
                alt=f"From {share[0]:.0%} at σ {middle[0]:.2g} to {share[-1]:.0%} at σ {middle[-1]:.2g}.",
            ),
            Chart(
                svg=charts.histogram(sample.sigma, "σ", log_x=True),
                title="Tuples by σ",
                alt=f"Half of the tuples are below σ {np.median(sample.sigma):.2g}.",
            ),
        ]
        if rows
        else [],
    )


def verification_section(report: VerifyReport | None) -> Section:
    """What `postmean verify` found last."""
    title = "Verification"
    if report is None:
        return Section(title=title, text="Not verified yet: run `postmean verify`.")
    text = f"{report.committed:,} of {report.shards:,} shards were there, {report.read:,} of them were read. "
    text += (
        "All is well." if not report.problems else f"{len(report.problems)} problems: " + "; ".join(report.problems[:5])
    )
    rows = [
        [
            f"{row.kind}, σ {row.sigma_from:g} to {row.sigma_to:g}",
            f"{row.count:,}",
            f"{row.mse:.1e}",
            f"{row.worst:.1e}",
        ]
        for row in report.rows
    ]
    return Section(
        title=title,
        text=text,
        table=Table(heads=["recomputed in float64", "tuples", "mean squared error", "worst"], rows=rows),
    )


def _bins(sigma: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Sigma in the middle of each bin with enough values, and the positions of these values."""
    number = np.floor(np.log(np.maximum(sigma, 1e-12)) / np.log(_BIN)).astype(int)
    rows = [np.flatnonzero(number == value) for value in np.unique(number)]
    rows = [r for r in rows if len(r) >= _FEWEST]
    return np.array([np.exp(np.log(np.maximum(sigma[r], 1e-12)).mean()) for r in rows]), rows
