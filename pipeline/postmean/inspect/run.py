"""What a run and a shard hold."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from postmean.base.serialise import to_dict
from postmean.contract.plan import shard_tuples
from postmean.contract.records import QUALITY_COLUMNS
from postmean.shards.run_folder import RunFolder

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


@dataclass(frozen=True, kw_only=True)
class RunView:
    """What a run is."""

    path: str
    manifest: dict[str, Any]
    shards: int
    committed: int
    records: int


@dataclass(frozen=True, kw_only=True)
class ShardView:
    """What a shard holds, once its hashes are found right."""

    path: str
    """Of the run."""
    shard: int
    records: int
    first_record: int
    """Number of its first record in the run."""
    first_tuple: int
    last_tuple: int
    files: dict[str, int]
    """Bytes by path below the run."""
    sparse: int
    """Records whose mean is stored as entries and weights."""
    quantiles: dict[str, list[float]]
    """Least, 5 %, median, 95 % and largest value of sigma and of each column of quality."""


def inspect_run(run: RunFolder) -> RunView:
    """Look at a run: its manifest, and how much of it there is."""
    plan = run.read_plan()
    return RunView(
        path=run.url,
        manifest=to_dict(run.read_manifest()),
        shards=len(plan),
        committed=int(run.listed().sum()),
        records=plan.total_records,
    )


def inspect_shard(run: RunFolder, shard: int) -> ShardView:
    """Look at a shard; ShardError if it is not there or damaged."""
    commit, plan = run.read_commit(shard), run.read_plan()
    records = run.read_shard(shard, commit=commit)
    manifest = run.read_manifest()
    certificate = manifest.plan_certificate(run.read_certified_sigma())
    block = shard_tuples(manifest.tuple_source(), plan[shard], certificate)
    columns = {"sigma": block.sigma} | {name: getattr(records, name) for name in QUALITY_COLUMNS}
    return ShardView(
        path=run.url,
        shard=shard,
        records=len(records),
        first_record=int(plan.records[:shard].sum()),
        first_tuple=commit.first_tuple,
        last_tuple=commit.last_tuple,
        files={file.path: file.size for file in commit.files},
        sparse=int((records.mean.count >= 0).sum()),
        quantiles={name: np.quantile(values, QUANTILES).tolist() for name, values in columns.items()},
    )
