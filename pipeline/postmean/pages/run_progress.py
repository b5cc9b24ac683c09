"""Sections of the page of a run: plan and progress, failures, rate over time."""

import time

import numpy as np

from postmean.base.progress import duration
from postmean.contract.manifest import Manifest
from postmean.pages import charts
from postmean.pages.page import Chart, Section, Table
from postmean.runs.history import Point
from postmean.runs.status import RunStatus


def progress_section(status: RunStatus, manifest: Manifest | None) -> Section:
    """What is made, and how far it is; a run that has no manifest yet is not planned."""
    if manifest is None:
        facts = [("driver", status.holder)] if status.holder else []
        return Section(title="Plan and progress", text="Not planned yet.", facts=facts)
    recipe, estimator = manifest.recipe, manifest.estimator
    facts = [
        ("shards", f"{status.shards_done:,} of {status.shards:,}"),
        ("records", f"{status.records_done:,} of {status.records:,}"),
        ("tuples ready for a trainer", f"{status.tuples_ready:,} of {status.tuples:,}"),
    ]
    if status.size is not None:
        facts.append(("bytes", status.size))
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


def failures_section(status: RunStatus) -> Section | None:
    """The shards that were given up; None without any."""
    if not status.failed:
        return None
    rows = [[shard, cause] for shard, cause in status.failures.items()]
    more = f"{status.failed:,} shards were given up; the next `postmean generate` tries them again."
    return Section(title="Failures", text=more, table=Table(heads=["shard", "last cause"], rows=rows))


def rates_section(history: tuple[Point, ...]) -> Section:
    """Records over time, as the driver reported them."""
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
