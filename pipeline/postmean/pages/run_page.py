"""The page of a run: plan and progress, rates, quality by sigma, certified share, verification, failures, pictures."""

import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from postmean.base.errors import PostmeanError
from postmean.base.progress import ShowProgress, byte_size, duration
from postmean.contract.image_store import ImageStore, to_pixels
from postmean.contract.manifest import Manifest
from postmean.contract.noisy import noisy_pixels
from postmean.pages import charts
from postmean.pages.page import Card, Chart, Page, Picture, Section, Table
from postmean.pages.pictures import png_of
from postmean.pages.samples import Example, RecordSample, RunSamples, TupleSample
from postmean.runs.history import Point
from postmean.runs.status import RunStatus, read_status
from postmean.runs.verify import VerifyReport, last_verification
from postmean.shards.retention import kept_shards
from postmean.shards.run_folder import RunFolder
from postmean.storage.storage import Storage

_BIN = 2**0.5
"""Ratio of the sigmas of a bin's ends."""
_FEWEST = 8
"""Records of a bin that is drawn."""
_NO_TAIL, _NO_VARIANCE = 1e-12, 1e-8
"""Where a tail mass of 0, and a variance of almost 0, are drawn on a logarithmic axis."""


class RunPage:
    """Makes the page of one run, again and again while it runs.

    Args:
        store: the image store for pictures; None takes the folder that the run was made from, if it is on this machine.
        progress: whether to show what is fetched of a store at a URL.
    Raises:
        DataError: no store there.
    """

    def __init__(self, storage: Storage, store: str | Path | None, progress: bool | ShowProgress = True) -> None:
        self._storage = storage
        self._given = None if store is None else ImageStore.open(store, progress)
        self._samples: tuple[Manifest, RunSamples, ImageStore | None] | None = None

    def make(self) -> Page:
        """The page as the run is now.

        Raises:
            ShardError: manifest or plan is damaged.
            MismatchError: the store is not the run's.
        """
        status = read_status(self._storage)
        run = RunFolder(self._storage)
        sections = [_progress(status, None)]
        if run.has_manifest():
            samples, store = self._sampled(run)
            shards = kept_shards(run).tolist()
            records, manifest = samples.records(shards), run.read_manifest()
            sections = [
                _progress(status, manifest),
                _failures(status),
                _rates(status.history),
                _quality(records),
                _certified(samples.tuples(), manifest),
                _verification(last_verification(self._storage)),
                _examples(samples.examples(shards), store),
            ]
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return Page(
            title=status.out,
            state=status.state,
            sections=[section for section in sections if section is not None],
            footer=f"postmean, {now}",
        )

    def _sampled(self, run: RunFolder) -> tuple[RunSamples, ImageStore | None]:
        manifest = run.read_manifest()
        if self._samples is None or self._samples[0] != manifest:  # the run began, or was extended
            store = self._given if self._given is not None else _store_of(run, manifest)
            if store is not None:
                manifest.check_store(store.header.fingerprint, self._storage.url)
            self._samples = (manifest, RunSamples(run, store), store)
        return self._samples[1:]


def _store_of(run: RunFolder, manifest: Manifest) -> ImageStore | None:
    """The store that the run was made from, if it is on this machine and the same."""
    try:
        path = run.named_store()
        if path is None or "://" in path:  # a page is not worth a fetch
            return None
        store = ImageStore.open(path)
        manifest.check_store(store.header.fingerprint, run.url)
    except PostmeanError:
        return None
    return store


def _progress(status: RunStatus, manifest: Manifest | None) -> Section:
    if manifest is None:
        facts = [("driver", status.holder)] if status.holder else []
        return Section(title="Plan and progress", text="Not planned yet.", facts=facts)
    recipe, estimator = manifest.recipe, manifest.estimator
    facts = [
        ("shards", f"{status.shards_done:,} of {status.shards:,}"),
        ("records", f"{status.records_done:,} of {status.records:,}"),
        ("tuples ready for a trainer", f"{status.tuples_ready:,} of {status.tuples:,}"),
    ]
    if status.bytes is not None:
        facts.append(("bytes", ("about " if status.are_bytes_estimated else "") + byte_size(status.bytes)))
    if status.records_per_second:
        facts.append(("rate", f"{status.records_per_second:,.0f} records/s"))
    if status.seconds_left is not None and status.state == "running":
        facts.append(("left", duration(status.seconds_left)))
    if status.retries:
        facts.append(("retries", f"{status.retries:,}"))
    if status.holder and status.state != "finished":
        facts.append(("driver", status.holder))
    facts += [(f"trainer {name}", f"at tuple {tuple_id:,}") for name, tuple_id in status.trainers.items()]
    if status.deleted:
        facts.append(("deleted after use", f"{status.deleted:,} shards"))
    n, *shape = manifest.store_shape
    facts += [
        ("data set", f"{n:,} images of {'×'.join(map(str, shape))}" + (", with flips" if recipe.flips else "")),
        ("fingerprint of the data set", manifest.store_fingerprint[:12]),
        ("process, noise", f"{recipe.process.kind}, {recipe.noise.kind}"),
        ("solver", recipe.solver + (", conditional" if recipe.conditional else "")),
        ("estimator", f"{estimator.name}, tolerance {estimator.tolerance:g}"),
        ("format", manifest.shards.format + (", self-contained" if manifest.shards.self_contained else "")),
        ("seed", str(manifest.seed)),
    ]
    share = status.records_done / status.records if status.records else 1.0
    return Section(title="Plan and progress", share=share, facts=facts)


def _failures(status: RunStatus) -> Section | None:
    if not status.failed:
        return None
    rows = [[shard, cause] for shard, cause in status.failures.items()]
    more = f"{status.failed:,} shards were given up; the next `postmean generate` tries them again."
    return Section(title="Failures", text=more, table=Table(heads=["shard", "last cause"], rows=rows))


def _rates(history: tuple[Point, ...]) -> Section:
    title = "Rate over time"
    if len(history) < 2 or history[-1][0] <= history[0][0]:
        return Section(title=title, text="No history: the driver has not reported twice yet.")
    moment, records = (np.array(column, np.float64) for column in zip(*history, strict=True))
    reports = _apart(moment)
    grown = np.diff(records[reports]) / np.maximum(np.diff(moment[reports]), 1e-3)
    span = moment[-1] - moment[0]
    unit, name = next(
        (u, n) for u, n in ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds")) if span > 2 * u or u == 1
    )
    elapsed = (moment - moment[0]) / unit
    began = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment[0]))
    return Section(
        title=title,
        text=f"From {began}, as the driver reported it. While the fleet starts, and in a pause, the rate is 0.",
        charts=[
            Chart(
                svg=charts.curves(elapsed[reports[1:]], {"rate": grown}, name, log_x=False),
                title="Records a second",
                alt=f"Records a second over {duration(span)}: {np.median(grown):,.0f} in the median.",
            ),
            Chart(
                svg=charts.curves(elapsed, {"records": records}, name, log_x=False),
                title="Records committed",
                alt=f"Records committed over {duration(span)}, {records[-1]:,.0f} at the end.",
            ),
        ],
    )


def _apart(moment: np.ndarray) -> np.ndarray:
    """Positions of the reports, without the last but one if the last, at the end, came right after it."""
    positions, steps = np.arange(len(moment)), np.diff(moment)
    return np.delete(positions, -2) if len(moment) > 2 and steps[-1] < np.median(steps) / 2 else positions


def _quality(sample: RecordSample) -> Section:
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


def _certified(sample: TupleSample, manifest: Manifest) -> Section:
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


def _verification(report: VerifyReport | None) -> Section:
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


def _examples(examples: list[Example], store: ImageStore | None) -> Section:
    title = "Records"
    if store is None:
        return Section(title=title, text="No pictures: the image store is not here. Pass --store.")
    if not examples:
        return Section(title=title, text="No pictures yet.")
    names = store.header.class_names
    cards = []
    for e in examples:
        label = f", class {names[e.label]}" if names and e.label is not None and e.label < len(names) else ""
        kind = "dense" if e.count < 0 else f"{e.count} image{'s' if e.count > 1 else ''}"
        pictures = [
            Picture(png=png_of(noisy_pixels(e.z, e.sigma)), name="z, scaled"),
            Picture(png=png_of(to_pixels(e.mean)), name="mean"),
            Picture(png=png_of(to_pixels(e.x)), name="x"),
        ]
        note = f"ESS {_three_digits(e.ess)}, top weight {e.top_weight:.2g}, {kind}, tuple {e.tuple_id:,}{label}"
        cards.append(Card(title=f"σ = {e.sigma:.3g}", pictures=pictures, note=note))
    return Section(title=title, text="z = x + σε is shown divided by 1 + 2σ.", cards=cards)


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def _bins(sigma: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Sigma in the middle of each bin with enough values, and the positions of these values."""
    number = np.floor(np.log(np.maximum(sigma, 1e-12)) / np.log(_BIN)).astype(int)
    rows = [np.flatnonzero(number == value) for value in np.unique(number)]
    rows = [r for r in rows if len(r) >= _FEWEST]
    return np.array([np.exp(np.log(np.maximum(sigma[r], 1e-12)).mean()) for r in rows]), rows
