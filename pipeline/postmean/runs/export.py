"""Export: the records of a run as tables that other tools read, one Parquet file a shard."""

import io
from dataclasses import dataclass

import pyarrow.parquet as pq

from postmean.base.errors import MismatchError, ShardError
from postmean.base.json_files import JsonError, parse_json, to_sealed_json, unsealed
from postmean.base.progress import NoProgress, ShowProgress
from postmean.runs.config import ExportConfig
from postmean.shards.card import CARD, card
from postmean.shards.retention import kept_shards
from postmean.shards.run_folder import RunFolder
from postmean.shards.table import to_table
from postmean.storage.open import open_storage
from postmean.storage.storage import Storage

EXPORT = "export.json"
_FOLDER = "records"


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What lies in the output now."""

    out: str
    shards: int
    """Of the plan."""
    exported: int
    """Shards in the output."""
    written: int
    """Of these, written by this call."""
    records: int
    """In the output."""


def export(config: ExportConfig, progress: ShowProgress = NoProgress) -> ExportReport:
    """Write each committed shard of a run as one table. The same call again writes those that are missing.

    A file depends on its shard alone, whatever the order or the number of calls.

    Args:
        progress: shows the shards.
    Raises:
        ShardError: no run there, or a shard is damaged.
        MismatchError: the output holds the export of another run.
    """
    run = RunFolder(open_storage(config.targets))
    manifest, plan, layout = run.read_manifest(), run.read_plan(), run.layout()
    out = open_storage(config.out or f"{config.targets.rstrip('/')}-{config.format}")
    _begin(out, manifest.fingerprint)
    shards = kept_shards(run)
    there = set(out.list(_FOLDER))
    written = 0
    with progress("export", len(shards), "shards") as line:
        for done, shard in enumerate(shards.tolist(), start=1):
            path = f"{_FOLDER}/{shard:06d}.parquet"
            if path not in there:
                sink = io.BytesIO()
                table = to_table(run.read_shard(shard), layout, manifest)
                pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_page_checksum=True)
                out.put(path, sink.getvalue())
                written += 1
            line.update(done)
    body = ["One row a record, one file a shard of the run: see the record format for the columns."]
    out.put(CARD, card(manifest, {"default": f"{_FOLDER}/*.parquet"}, body))
    return ExportReport(
        out=out.url,
        shards=len(plan),
        exported=len(shards),
        written=written,
        records=int(plan.records[shards].sum()),
    )


def _begin(out: Storage, run: str) -> None:
    """Claim the output for this run, or raise MismatchError."""
    if out.create(EXPORT, to_sealed_json({"run": run})):
        return
    try:
        found = unsealed(parse_json(out.get(EXPORT))).get("run")
    except JsonError as error:
        raise ShardError(f"{out.url}/{EXPORT}: {error}: remove {out.url} and export again") from error
    if found != run:
        raise MismatchError(f"{out.url}: the export of another run ({str(found)[:12]}): pass another --out")
