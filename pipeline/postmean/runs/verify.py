"""Verification of a run: hash every shard, compare it with the plan, and recompute a sample in float64."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from postmean.base.cores import usable_cores
from postmean.base.errors import DataError, GenerationError, ShardError, VerificationError
from postmean.base.json_files import JsonError, read_json, to_json
from postmean.base.progress import NoProgress, ShowProgress, shown
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.engine.process_setup import threads
from postmean.estimators.traits import traits_of
from postmean.estimators.twin_test import FALSE_ALARM
from postmean.runs.config import VerifyConfig
from postmean.runs.look_at_shards import look_at
from postmean.runs.recompute import Errors, is_judged, recompute
from postmean.runs.verify_sample import Sample, spread_places
from postmean.shards.retention import deleted_shards, kept_shards
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.storage.storage import Storage

VERIFICATION = "verification.json"
SIGMA_EDGES = (0.0, 0.1, 0.3, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 40.0, np.inf)


@dataclass(frozen=True, kw_only=True)
class SigmaRow:
    """Error of the sampled tuples in one range of sigma, per dimension, in units of x."""

    kind: str
    """records, records at the Euler point (mean_next), or certified"""
    sigma_from: float
    sigma_to: float
    count: int
    mse: float
    """Mean squared error against the exact mean"""
    worst: float
    """Largest mean squared error of a single tuple"""


@dataclass(frozen=True, kw_only=True)
class TwinRow:
    """How the sampled means compare with those of their estimator's float64 twin: p-values, see `twin_test`."""

    kind: str
    """records, or records at the Euler point (mean_next)"""
    count: int
    virtual_runs: int
    size: float
    """Of the sizes of the errors"""
    shift: float
    """Of the errors along the slope of the mean over log sigma"""
    worst: float
    """Of the largest error"""
    is_other: bool
    """Whether the means are not this estimator's; so it seems of a right run with probability 1/1000 at most."""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What verification found."""

    out: str
    estimator: str
    """Name of the estimator that made the means."""
    shards: int
    committed: int
    """With a valid commit record; of shards that were not read, with any."""
    read: int
    """Shards that were read and hashed: all that are committed, or a sample of them (`--shards`)."""
    deleted: int
    """Committed shards deleted after all trainers had consumed them, so not checked."""
    records: int
    made_on: dict[str, int] = field(default_factory=dict[str, int])
    """Shards by the kind of machine that made them"""
    damaged: dict[int, str] = field(default_factory=dict[int, str])
    """Cause by shard"""
    recomputed: int = 0
    """Records recomputed in float64."""
    rows: list[SigmaRow] = field(default_factory=list[SigmaRow])
    twins: list[TwinRow] = field(default_factory=list[TwinRow])
    not_judged: str | None = None
    """Why no distribution was compared although the estimator searches; None otherwise."""
    problems: list[str] = field(default_factory=list[str])
    """What is wrong, one line each; see `judge`"""


def verify(config: VerifyConfig, progress: bool | ShowProgress = True) -> VerifyReport:
    """Check a run against its plan and hashes, and a sample of it against float64.

    >>> report = verify(VerifyConfig(out=targets, store=digits.path), progress=False)
    >>> report.problems, report.committed == report.shards
    ([], True)

    Args:
        progress: whether to show the shards, then the recomputation.
    Returns:
        a report whose `problems` are empty where all is well.
    Raises:
        ShardError: no run there, or its manifest or plan is damaged.
        MismatchError: the run was made from another store, or this machine makes other random numbers.
        VerificationError: the store's files are not what its header says.
    """
    show, run = shown(progress), RunFolder(open_storage(config.out))
    manifest = run.read_manifest()
    store = ImageStore.open(config.store, show)
    with threads(config.threads or usable_cores()):
        report = check_run(run, store, config.most_records, config.seconds, show, config.shards)
    report = replace(report, problems=judge(report, manifest))
    with suppress(GenerationError):  # a folder that this user may only read is verified all the same
        run.storage.put(VERIFICATION, to_json(report))
    return report


def last_verification(storage: Storage) -> VerifyReport | None:
    """What `postmean verify` found last; None if it never ended here."""
    try:
        return read_json(VerifyReport, storage.get(VERIFICATION), VERIFICATION)
    except (ShardError, JsonError):
        return None


def check_run(
    run: RunFolder,
    store: ImageStore,
    sample: int,
    seconds: float | None = None,
    show: ShowProgress = NoProgress,
    shards: int | None = None,
) -> VerifyReport:
    """Check a run. A commit record is read once, with its shard, and several shards at a time.

    Args:
        sample: number of records, and of certified tuples, to recompute: about that many, spread over all shards.
        seconds: time for recomputing: as many of the sample as fit.
        show: shows the shards, then the recomputation.
        shards: read this many, spread evenly over the run; None: all.
    Raises:
        MismatchError: the run was made from another store, or this machine generates other random numbers.
        VerificationError: the store's files do not match its header.
    """
    manifest, plan = run.read_manifest(), run.read_plan()
    manifest.check_store(store.header.fingerprint, run.storage.url)
    manifest.check_tuples(run.storage.url)
    try:
        store.check()
    except DataError as error:
        raise VerificationError(str(error)) from error
    certified = run.read_certified_sigma()
    run.check_metadata()
    deleted, listed = deleted_shards(run), kept_shards(run)
    picked = listed if shards is None else listed[spread_places(len(listed), shards)]
    chosen = Sample(sample, len(picked))
    damaged: dict[int, str] = {}
    made_on: Counter[str] = Counter()
    with show("verify", len(picked), "shards") as line:
        for position, found in enumerate(look_at(picked, run, certified, store)):
            line.update(position + 1)
            if found.commit is not None:
                made_on[found.commit.made_on] += 1
            if found.damage is not None:
                damaged[int(picked[position])] = found.damage
            if found.whole is not None:
                chosen.take(position, manifest.tuple_source(), *found.whole, certified)
    found = recompute(chosen, manifest, store, seconds, show)
    return VerifyReport(
        out=run.storage.url,
        estimator=manifest.estimator.name,
        shards=len(plan),
        committed=made_on.total() + len(listed) - len(picked) + deleted,
        read=made_on.total(),
        deleted=deleted,
        records=plan.total_records,
        made_on=dict(made_on),
        damaged=damaged,
        recomputed=found.records,
        rows=[row for errors in found.errors for row in _sigma_rows(errors)],
        twins=[
            TwinRow(
                kind=kind,
                count=count,
                virtual_runs=twin.virtual_runs,
                size=twin.size,
                shift=twin.shift,
                worst=twin.worst,
                is_other=twin.is_other,
            )
            for kind, count, twin in found.twins
        ],
        not_judged=_not_judged(manifest),
    )


def judge(report: VerifyReport, manifest: Manifest) -> list[str]:
    """The problems of a run, one line each; empty if there are none."""
    problems = [f"shard {shard:06d}: {cause}" for shard, cause in report.damaged.items()]
    if report.committed < report.shards:
        missing = report.shards - report.committed
        problems.append(f"{missing} of {report.shards} shards are missing: run the same `postmean generate` again")
    traits = traits_of(manifest.estimator.name)
    for row in report.rows:
        # sampling estimators promise nothing; the others and the certificate promise the tolerance
        promised = row.kind == "certified" or traits.promise is not None
        allowed = manifest.estimator.tolerance
        # `exact` promises it for each record, the certificate and `auto` in expectation over eps
        error = row.worst if traits.promise == "each" and row.kind == "records" else row.mse
        if traits.estimates_exact_mean and promised and not error <= allowed:
            problems.append(
                f"{row.kind} at sigma {row.sigma_from:g}..{row.sigma_to:g}: mean squared error {error:.1e}, "
                f"promised were {allowed:.1e}: do not train on this run"
            )
    for twin in report.twins:
        if twin.is_other:
            problems.append(
                f"{twin.kind}: {twin.count} means are not distributed as those of {report.estimator} "
                f"(p size {twin.size:.1e}, shift {twin.shift:.1e}, worst {twin.worst:.1e}; a right run seems so "
                f"once in {1 / FALSE_ALARM:,.0f}): do not train on this run"
            )
    return problems


def _not_judged(manifest: Manifest) -> str | None:
    estimator = manifest.estimator
    if not traits_of(estimator.name).searches or is_judged(manifest):
        return None
    if estimator.index.startswith("ivf"):
        return f"{estimator.index} finds other neighbours than the nearest, so its twin is not known"
    if manifest.recipe.substeps:
        return f"solver {manifest.recipe.solver} averages means, which no twin does"
    return f"{estimator.name} has no twin"


def _sigma_rows(errors: Errors) -> list[SigmaRow]:
    found: list[SigmaRow] = []
    for low, high in pairwise(SIGMA_EDGES):
        inside = (errors.sigma > low) & (errors.sigma <= high)
        if inside.any():
            found.append(
                SigmaRow(
                    kind=errors.kind,
                    sigma_from=low,
                    sigma_to=high,
                    count=int(inside.sum()),
                    mse=float(errors.mse[inside].mean()),
                    worst=float(errors.mse[inside].max()),
                )
            )
    return found
