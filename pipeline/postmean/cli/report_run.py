"""`postmean report run OUT`: one HTML page of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from postmean.base.command_line import CommandLine
from postmean.base.places import Place

SUMMARY = "Write one HTML page of a run: progress, rates, quality by sigma, verification, failures, pictures."


@dataclass(frozen=True, kw_only=True)
class RunReportConfig:
    """Which run, and where the page goes."""

    targets: Annotated[str, tyro.conf.Positional]
    """Folder or URL of the run."""
    store: Place | None = None
    """Image store (folder or URL), for pictures; default the folder that the run was made from, if it is there."""
    out: Path | None = None
    """File of the page; default report.html in the run."""


COMMAND = CommandLine(
    name="report run",
    settings=RunReportConfig,
    summary=SUMMARY,
    main="targets store out",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    from postmean.pages.page import render
    from postmean.pages.run_page import RunPage
    from postmean.pages.write_page import write_page
    from postmean.storage.open import open_existing

    storage = open_existing(config.targets)
    page = RunPage(storage, config.store, output.progress).make()
    path = write_page(render(page), config.out, storage)
    output.report({"page": path, "state": page.state}, f"{path}: {page.state}")
    return 0
