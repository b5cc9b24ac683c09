"""`postmean report store STORE`: one HTML page of an image store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from postmean.base.checks import check_tolerance
from postmean.base.command_line import parse, print_report
from postmean.base.progress import Progress

SUMMARY = "Write one HTML page of an image store: classes, near duplicates, certified sigmas, the oddest images."


@dataclass(frozen=True, kw_only=True)
class StoreReportConfig:
    """Which store, and where the page goes."""

    store: Annotated[Path, tyro.conf.Positional]
    """Image store made by `postmean import`; `postmean index` adds the self-join, which knows the duplicates."""
    tolerance: float = 1e-6
    """Mean squared error per dimension for the certified sigmas."""
    out: Path | None = None
    """File of the page; default report.html in the store."""
    json: bool = False
    """Print the report as JSON."""

    def __post_init__(self) -> None:
        check_tolerance(self)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config = parse(StoreReportConfig, argv, "report store", SUMMARY)
    from postmean.contract.image_store import ImageStore
    from postmean.pages.page import render
    from postmean.pages.store_page import store_page
    from postmean.pages.write_page import write_page
    from postmean.storage.open import open_storage

    store = ImageStore.open(config.store)
    page = store_page(store, config.tolerance, Progress)
    path = write_page(render(page), config.out, open_storage(store.path))
    print_report({"page": path, "state": page.state}, f"{path}: {page.state}", config.json)
    return 0
