"""`postmean status OUT`: how far a run, or the index of a store, is, whether it is running, and what failed."""

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from postmean.base.command_line import CommandLine
from postmean.base.errors import ConfigError
from postmean.base.log import is_structured, log_event
from postmean.base.places import Place
from postmean.base.progress import byte_size, duration

if TYPE_CHECKING:
    from postmean.runs.index_status import IndexStatus, StoreStatus
    from postmean.runs.status import RunStatus
    from postmean.storage.storage import Storage

_DEFAULT_ADDRESS = "127.0.0.1:8802"
_ADDRESS = re.compile(r"[A-Za-z0-9.-]*:\d+|\[[0-9A-Fa-f:.]+\]:\d+")


@dataclass(frozen=True, kw_only=True)
class StatusConfig:
    """Which run."""

    out: Annotated[str, tyro.conf.Positional]
    """Folder or URL of the run, or the image store that `postmean index` works at."""
    serve: str | None = None
    """Serve the page of `postmean report run`, live, at HOST:PORT (default 127.0.0.1:8802, which only this machine
    reaches) until Ctrl-C. Whoever reaches the address sees the page."""
    store: Place | None = None
    """Image store (folder or URL) for the pictures of --serve; default the one that the run was made from."""

    def __post_init__(self) -> None:
        if self.store is not None and self.serve is None:
            raise ConfigError("--store: it is for the page of --serve: pass --serve too")


COMMAND = CommandLine(
    name="status",
    settings=StatusConfig,
    summary="Show how far a run or an index is, from any machine that sees its output.",
    main="out serve store",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    argv = _with_address(argv)
    config, output = COMMAND.parse(argv)
    from postmean.contract.remote_store import is_store
    from postmean.runs.status import read_status
    from postmean.storage.open import open_existing

    if is_store(config.out):
        from postmean.runs.index_status import read_store_status  # here: it loads torch

        if config.serve is not None:
            raise ConfigError("--serve: it is for runs: `postmean report store` makes a page of a store")
        store_status = read_store_status(config.out)
        output.report(store_status, _store_text(store_status))
        return 0
    storage = open_existing(config.out)
    if config.serve is not None:
        _serve(storage, config)
        return 0
    status = read_status(storage)
    output.report(status, _text(status))
    return 0


def _with_address(argv: list[str]) -> list[str]:
    """The arguments with the default address after a --serve that has none: the parser wants one."""
    done = []
    for place, word in enumerate(argv):
        done.append(word)
        following = argv[place + 1 : place + 2]
        if word == "--serve" and not (following and _ADDRESS.fullmatch(following[0])):
            done.append(_DEFAULT_ADDRESS)
    return done


def _serve(storage: "Storage", config: StatusConfig) -> None:
    from postmean.pages.page_server import Address, PageServer
    from postmean.pages.run_page import RunPage

    page = RunPage(storage, config.store)
    with PageServer(Address.parse(config.serve or ""), page.make) as server:
        log_event("serving", url=server.url)
        if not is_structured():
            print(f"{storage.url} at {server.url}", file=sys.stderr, flush=True)
        server.wait()


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
    if status.size is not None:
        rows.append(("bytes", status.size))
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


def _store_text(status: "StoreStatus") -> str:
    made = f"indexed: {', '.join(status.indexes)}" if status.indexes else "not indexed yet"
    return "\n".join([f"{status.store}: {made}", *map(_index_text, status.being_made)])


def _index_text(status: "IndexStatus") -> str:
    share = status.pairs_done / status.pairs if status.pairs else 1.0
    rows = [
        ("units", f"{status.units_done:,} of {status.units:,}"),
        ("pairs", f"{status.pairs_done:,} of {status.pairs:,} ({share:.1%})"),
        ("bytes", f"{byte_size(status.bytes)} of parts, removed at the end"),
    ]
    if status.pairs_per_second:
        left = f", {duration(status.seconds_left)} left" if status.seconds_left is not None else ""
        rows.append(("rate", f"{status.pairs_per_second:,.0f} pairs/s{left}"))
    if status.retries:
        rows.append(("retries", f"{status.retries:,}"))
    if status.holder:
        rows.append(("driver", status.holder + ("" if status.state == "running" else ": it was killed")))
    rows += [("failed", f"{name}: {cause}") for name, cause in list(status.failures.items())[:3]]
    remedy = ": run the same `postmean index` again to go on" if status.state == "stopped" else ""
    return "\n".join([f"{status.parts}: {status.state}{remedy}", *(f"  {name:<8} {value}" for name, value in rows)])
