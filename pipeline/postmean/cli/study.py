"""`postmean study STORE`: error of the training target over k, n, beta and seeds, as one job that can be stopped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from postmean.base.checks import check_at_least_one
from postmean.base.command_line import CommandLine


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What to sweep, and how much to measure."""

    store: Annotated[Path, tyro.conf.Positional]
    """Image store made by `postmean import`."""
    out: Path
    """Folder for the table and the picture; computed results are kept in its parts/."""
    k: tuple[int, ...] = (32, 128, 512, 2048)
    """Neighbours of knn-snis."""
    n: tuple[int, ...] = (16, 64, 256)
    """Draws of knn-snis."""
    beta: tuple[float, ...] = (1.0, 0.5)
    """Dials between the usual target (0) and the estimate (1); the usual target itself is always there."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each has its own images, eps and draws."""
    sigmas: tuple[float, ...] = (1.0, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 32.0, 80.0)
    """Noise levels."""
    points: int = 16
    """Noisy images at each sigma and seed."""
    repeats: int = 4
    """Evaluations of the estimator at each of them."""
    flips: bool = False
    """Treat horizontally flipped images as data too."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it computes; auto uses a GPU if there is one."""
    threads: int | None = None
    """CPU threads; default all cores that this process may use."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("threads",))


COMMAND = CommandLine(
    name="study",
    settings=StudyConfig,
    summary="Error of the training target over k, n, beta and seeds (Niedoba et al. 2024, Figure 4, before training). "
    "The same command again computes only what is missing.",
    main="store out k n beta seeds sigmas points repeats flips device",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    from postmean.base.cores import usable_cores
    from postmean.base.device import choose_device
    from postmean.contract.image_store import ImageStore
    from postmean.engine.process_setup import threads
    from postmean.report.study import StudySettings, study

    names = ("k", "n", "beta", "seeds", "sigmas", "points", "repeats", "flips")
    settings = StudySettings(**{name: getattr(config, name) for name in names}, device=choose_device(config.device))
    store = ImageStore.open(config.store)
    with threads(config.threads or usable_cores()):
        report = study(store, config.out, settings, output.progress)
    wrote = ", ".join(report.files)
    output.report(report, f"{report.out}: {report.cells} cells, {report.computed} computed now; wrote {wrote}")
    return 0
