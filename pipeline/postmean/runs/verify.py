"""Verification of a run: hash every shard, compare it with the plan, and recompute a sample exactly in float64."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from postmean.base.errors import DataError, GenerationError, ShardError, VerificationError
from postmean.base.json_files import JsonError, read_json, to_json
from postmean.base.progress import ShowProgress, shown
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.noisy import noisy
from postmean.contract.plan import shard_tuples, uncertified
from postmean.contract.records import Records
from postmean.contract.tuples import TupleBlock
from postmean.estimators.float64 import exact_mean
from postmean.estimators.traits import traits_of
from postmean.runs.commits import committed_shards
from postmean.runs.config import VerifyConfig
from postmean.shards.retention import deleted_shards
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
class VerifyReport:
    """What verification found."""

    out: str
    estimator: str
    """Name of the estimator that made the means."""
    shards: int
    committed: int
    deleted: int
    """Committed shards deleted after all trainers had consumed them, so not checked."""
    records: int
    made_on: dict[str, int] = field(default_factory=dict[str, int])
    """Shards by the kind of machine that made them"""
    damaged: dict[int, str] = field(default_factory=dict[int, str])
    """Cause by shard"""
    rows: list[SigmaRow] = field(default_factory=list[SigmaRow])
    problems: list[str] = field(default_factory=list[str])
    """What is wrong, one line each; see `judge`"""


@dataclass
class _Sample:
    """Tuples collected while the shards are read, to be recomputed."""

    kind: str
    sigma: list[np.ndarray] = field(default_factory=list[np.ndarray])
    z: list[np.ndarray] = field(default_factory=list[np.ndarray])
    mean: list[np.ndarray] = field(default_factory=list[np.ndarray])
    entry: list[np.ndarray] = field(default_factory=list[np.ndarray])

    def add(self, sigma: np.ndarray, z: np.ndarray, mean: np.ndarray, entry: np.ndarray) -> None:
        for column, value in (("sigma", sigma), ("z", z), ("mean", mean), ("entry", entry)):
            getattr(self, column).append(value)


def verify(config: VerifyConfig, progress: bool | ShowProgress = True) -> VerifyReport:
    """Check a run against its plan and hashes, and a sample of it against float64.

    >>> report = verify(VerifyConfig(out=targets, store=digits.path), progress=False)
    >>> report.problems, report.committed == report.shards
    ([], True)

    Args:
        progress: whether to show the reading of commit records, then the shards.
    Returns:
        a report whose `problems` are empty where all is well.
    Raises:
        ShardError: no run there, or its manifest or plan is damaged.
        MismatchError: the run was made from another store, or this machine makes other random numbers.
        VerificationError: the store's files are not what its header says.
    """
    show, run = shown(progress), RunFolder(open_storage(config.out))
    manifest = run.read_manifest()
    store = ImageStore.open(config.store)
    with show("verify", len(committed_shards(run, show)), "shards") as line:
        report = check_run(run, store, config.sample, line.update)
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


def check_run(run: RunFolder, store: ImageStore, sample: int, progress: Callable[[int], None]) -> VerifyReport:
    """Check a run.

    Args:
        sample: number of records, and of certified tuples, to recompute; at least that many if there are enough.
        progress: called with the number of shards read so far.
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
    deleted = deleted_shards(run)
    committed = sorted(shard for shard in run.committed() if shard >= deleted)
    each = -(-sample // max(1, len(committed)))
    places = np.linspace(0, len(committed) - 1, min(sample, len(committed))).astype(int).tolist()
    sampled = {position: _shift(number) for number, position in enumerate(places)}
    samples = {kind: _Sample(kind) for kind in ("records", "mean_next", "certified")}
    damaged: dict[int, str] = {}
    made_on: Counter[str] = Counter()
    for position, shard in enumerate(committed):
        try:
            made_on[run.read_commit(shard).made_on] += 1
            records = run.read_shard(shard)
            block = shard_tuples(manifest.tuple_source(), plan[shard], manifest.plan_certificate(certified))
            remedy = run.make_again(shard)
            if not np.array_equal(records.tuple_id, block.tuple_id):
                raise ShardError(f"its tuples are not the plan's: {remedy}")
            _check_tuple_columns(records, block, store, remedy)
            _check_values(records, manifest, remedy)
        except ShardError as error:
            damaged[shard] = str(error)
            continue
        if position in sampled:
            _take(samples, manifest, store, block, records, _quantiles(each, sampled[position]), certified)
        progress(position + 1)
    rows = [row for kind in samples.values() for row in _errors(kind, manifest, store)]
    return VerifyReport(
        out=run.storage.url,
        estimator=manifest.estimator.name,
        shards=len(plan),
        committed=len(committed) + deleted,
        deleted=deleted,
        records=plan.total_records,
        made_on=dict(made_on),
        damaged=damaged,
        rows=rows,
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
    return problems


def _shift(number: int) -> float:
    """Shift in [0, 1) for the number-th sampled shard; consecutive ones spread evenly (golden ratio sequence)."""
    return (number + 0.5) * (5**0.5 - 1) / 2 % 1


def _quantiles(count: int, shift: float) -> np.ndarray:
    """`count` evenly spaced quantiles in [0, 1); the different shifts of the sampled shards fill the gaps."""
    return (np.arange(count) + shift) / count


def _check_tuple_columns(records: Records, block: TupleBlock, store: ImageStore, remedy: str) -> None:
    """Raise ShardError unless the columns that the tuples' numbers decide are theirs."""
    label = store.label(block.entry)
    # not to the last bit: that of exp and ndtri may differ between machines
    is_same = np.allclose(records.sigma, block.sigma, rtol=1e-5, atol=0)
    if records.label is not None and label is not None:
        is_same = is_same and np.array_equal(records.label, label)
    if records.sigma_next is not None and block.sigma_next is not None:
        is_same = is_same and np.allclose(records.sigma_next, block.sigma_next, rtol=1e-5, atol=1e-6)
    if not is_same:
        raise ShardError(f"its sigma, sigma_next or label are not those of its tuples: {remedy}")


def _check_values(records: Records, manifest: Manifest, remedy: str) -> None:
    """Raise ShardError unless every mean can be one of this store's images: a valid hash does not prove that."""
    entries = manifest.tuple_source().entries
    for means in (records.mean, records.mean_next):
        if means is None:
            continue
        pixels = means.dense.astype(np.float32)
        if not np.isfinite(pixels).all() or np.abs(pixels).max(initial=0.0) > 1.001:
            raise ShardError(f"a mean is not finite or leaves [-1, 1]: {remedy}")
        if (means.entry >= entries).any() or not ((means.weight >= 0) & (means.weight <= 1.001)).all():
            raise ShardError(
                f"a mean has an entry beyond the {entries} of the data set or a weight outside [0, 1]: {remedy}"
            )
        sparse = means.count[means.count >= 0]
        total = np.bincount(np.repeat(np.arange(len(sparse)), sparse), means.weight, len(sparse))
        if (np.abs(total - 1) > 1e-3).any():
            raise ShardError(f"the weights of a mean do not sum to 1: {remedy}")


def _take(
    samples: dict[str, _Sample],
    manifest: Manifest,
    store: ImageStore,
    block: TupleBlock,
    records: Records,
    quantiles: np.ndarray,
    certified: np.ndarray | None,
) -> None:
    """Keep this shard's records at these quantiles of sigma, and the certified tuples of highest sigma in its range."""
    source = manifest.tuple_source()
    order = np.argsort(block.sigma, kind="stable")
    rows = np.unique(order[(quantiles * len(order)).astype(int)])
    parts = [records.slice(row, row + 1) for row in rows]
    picked = block.select(rows)
    z = noisy(source, store, picked)[2].reshape(len(rows), -1)
    mean = np.concatenate([p.mean.decode(store) for p in parts]).reshape(len(rows), -1)
    samples["records"].add(picked.sigma, z, mean, picked.entry)
    if picked.sigma_next is not None and all(p.mean_next is not None for p in parts):
        later = np.concatenate([p.mean_next.decode(store) for p in parts if p.mean_next is not None])
        ratio = (picked.sigma_next / picked.sigma)[:, None]
        exact = exact_mean_by_class(manifest, store, picked.entry, z, picked.sigma)
        moves = picked.sigma_next > 0
        # the Euler point as in the pipeline, but from the exact mean
        euler = (exact + ratio * (z - exact)).astype(np.float32)
        samples["mean_next"].add(
            picked.sigma_next[moves], euler[moves], later.reshape(len(rows), -1)[moves], picked.entry[moves]
        )
    if certified is not None:
        around = source.block(int(block.tuple_id[0]), int(block.tuple_id[-1]) + 1)
        below = around.select(~uncertified(source, around, certified))
        if len(below):
            highest = below.select(np.argsort(-below.sigma, kind="stable")[: len(quantiles)])
            x, _, z = (values.reshape(len(highest), -1) for values in noisy(source, store, highest))
            samples["certified"].add(highest.sigma, z, x, highest.entry)


def exact_mean_by_class(
    manifest: Manifest, store: ImageStore, entry: np.ndarray, z: np.ndarray, sigma: np.ndarray
) -> np.ndarray:
    """Exact means in float64 over the population of each tuple."""
    entries = np.arange(manifest.tuple_source().entries)
    if not manifest.recipe.conditional:
        return exact_mean(store, entries, z, sigma)
    out = np.empty((len(z), store.dim))
    label, labels = store.label(entry), store.label(entries)
    assert label is not None and labels is not None
    for value in np.unique(label):
        rows = label == value
        out[rows] = exact_mean(store, entries[labels == value], z[rows], sigma[rows])
    return out


def _errors(sample: _Sample, manifest: Manifest, store: ImageStore) -> list[SigmaRow]:
    if not sample.sigma or not sum(map(len, sample.sigma)):
        return []
    sigma, z, mean, entry = (np.concatenate(getattr(sample, name)) for name in ("sigma", "z", "mean", "entry"))
    mse = np.empty(len(z))
    for start in range(0, len(z), 64):
        rows = slice(start, start + 64)
        exact = exact_mean_by_class(manifest, store, entry[rows], z[rows], sigma[rows])
        mse[rows] = np.square(mean[rows] - exact).mean(1)
    found: list[SigmaRow] = []
    for low, high in pairwise(SIGMA_EDGES):
        inside = (sigma > low) & (sigma <= high)
        if inside.any():
            found.append(
                SigmaRow(
                    kind=sample.kind,
                    sigma_from=low,
                    sigma_to=high,
                    count=int(inside.sum()),
                    mse=float(mse[inside].mean()),
                    worst=float(mse[inside].max()),
                )
            )
    return found
