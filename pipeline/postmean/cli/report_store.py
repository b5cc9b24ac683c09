"""`postmean report store STORE`: one HTML page of an image store."""

from dataclasses import dataclass
from pathlib import Path

from postmean.base.checks import check_tolerance
from postmean.base.command_line import CommandLine
from postmean.base.places import PositionalStore

SUMMARY = "Write one HTML page of an image store: classes, near duplicates, certified sigmas, the oddest images."


@dataclass(frozen=True, kw_only=True)
class StoreReportConfig:
    """Which store, and where the page goes."""

    store: PositionalStore
    """Image store made by `postmean import`: folder or URL. `postmean index` adds the self-join: the duplicates."""
    tolerance: float = 1e-6
    """Mean squared error per dimension for the certified sigmas."""
    out: Path | None = None
    """File of the page; default report.html in the store."""

    def __post_init__(self) -> None:
        check_tolerance(self)


COMMAND = CommandLine(
    name="report store",
    settings=StoreReportConfig,
    summary=SUMMARY,
    main="store tolerance out",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    from postmean.contract.image_store import ImageStore
    from postmean.pages.page import render
    from postmean.pages.store_page import store_page
    from postmean.pages.write_page import write_page
    from postmean.storage.open import open_storage

    store = ImageStore.open(config.store, output.progress)
    page = store_page(store, config.tolerance, output.progress)
    path = write_page(render(page), config.out, open_storage(store.url))
    output.report({"page": path, "state": page.state}, f"{path}: {page.state}")
    return 0
