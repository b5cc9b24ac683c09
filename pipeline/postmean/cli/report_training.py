"""`postmean report training MODEL`: one HTML page of a training run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from postmean.base.command_line import CommandLine

SUMMARY = "Write one HTML page of a training run: loss by sigma, gradient, speed, scores, grids of samples."


@dataclass(frozen=True, kw_only=True)
class TrainingReportConfig:
    """Which training run, and where the page goes."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run, the --out of `postmean train`."""
    out: Path | None = None
    """File of the page; default report.html in the run."""


COMMAND = CommandLine(
    name="report training",
    settings=TrainingReportConfig,
    summary=SUMMARY,
    main="run out",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    from postmean.pages.page import render
    from postmean.pages.training_page import training_page
    from postmean.pages.write_page import write_page
    from postmean.storage.open import open_storage

    page = training_page(config.run)
    path = write_page(render(page), config.out, open_storage(str(config.run)))
    output.report({"page": path, "state": page.state}, f"{path}: {page.state}")
    return 0
