"""`postmean status OUT`: how far a run is, whether it is running, and what failed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from postmean.base.command_line import CommandLine
from postmean.base.progress import byte_size, duration

if TYPE_CHECKING:
    from postmean.runs.status import RunStatus


@dataclass(frozen=True, kw_only=True)
class StatusConfig:
    """Which run."""

    out: Annotated[str, tyro.conf.Positional]
    """Folder or URL of the run."""


COMMAND = CommandLine(
    name="status",
    settings=StatusConfig,
    summary="Show how far a run is, from any machine that sees its output.",
    main="out",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    from postmean.runs.status import read_status
    from postmean.storage.open import open_storage

    status = read_status(open_storage(config.out))
    output.report(status, _text(status))
    return 0


def _text(status: "RunStatus") -> str:
    if status.state == "nothing there":
        return f"{status.out}: nothing there"
    if status.shards_done == status.shards == 0 and status.state == "running":
        return f"{status.out}: running, not planned yet ({status.holder})"
    share = status.records_done / status.records if status.records else 1.0
    rows = [
        ("shards", f"{status.shards_done:,} of {status.shards:,}"),
        ("records", f"{status.records_done:,} of {status.records:,} ({share:.1%})"),
        ("tuples", f"{status.tuples_ready:,} of {status.tuples:,} ready for a trainer"),
    ]
    if status.bytes is not None:
        rows.append(("bytes", ("about " if status.are_bytes_estimated else "") + byte_size(status.bytes)))
    if status.records_per_second:
        left = f", {duration(status.seconds_left)} left" if status.seconds_left is not None else ""
        rows.append(("rate", f"{status.records_per_second:,.0f} records/s{left}"))
    rows += [("trainer", f"{name} at tuple {tuple_id:,}") for name, tuple_id in status.trainers.items()]
    if status.deleted:
        rows.append(("deleted", f"{status.deleted:,} shards that all trainers had consumed"))
    if status.retries:
        rows.append(("retries", f"{status.retries:,}"))
    if status.holder and status.state != "finished":
        rows.append(("driver", status.holder + ("" if status.state == "running" else ": it was killed")))
    if status.failed:
        rows.append(("failed", f"{status.failed:,} shards, tried again by the next `postmean generate`"))
        rows += [("", f"{shard}: {cause}") for shard, cause in list(status.failures.items())[:3]]
    remedy = ": run the same `postmean generate` again to go on" if status.state == "stopped" else ""
    return "\n".join([f"{status.out}: {status.state}{remedy}", *(f"  {name:<8} {value}" for name, value in rows)])
