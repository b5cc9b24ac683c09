"""`postmean report WHAT`: pages of a run or a store, and errors of all estimators as a table and pictures."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from postmean.base.checks import check_at_least_one
from postmean.base.command_line import CommandLine
from postmean.base.errors import ConfigError
from postmean.base.places import PositionalStore
from postmean.base.suggest import choice
from postmean.cli import report_hybrid, report_run, report_store, report_training

if TYPE_CHECKING:
    from postmean.report.settings import ReportSettings

SUMMARY = (
    "MSE, squared bias and variance of every estimator by sigma, on the images of a store (Niedoba et al. 2024, "
    "Figures 2, 3, 6, 7, 8, 10, 11 and 12). The same command again computes only what is missing."
)
_USAGE = f"""usage: postmean report run TARGETS ...
       postmean report store STORE ...
       postmean report training MODEL ...
       postmean report estimators STORE --out FOLDER ...
       postmean report hybrid STORE --network MODEL --out FOLDER ...

run         {report_run.SUMMARY}
store       {report_store.SUMMARY}
training    {report_training.SUMMARY}
estimators  {SUMMARY}
hybrid      {report_hybrid.SUMMARY}

postmean report WHAT --help shows the flags."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What to measure, and how much."""

    store: PositionalStore
    """Image store made by `postmean import`: folder or URL."""
    out: Path
    """Folder for the table and the pictures; computed results are kept in its parts/."""
    quick: bool = False
    """Small sizes for a first look: 8 points, 4 repeats, 5 noise levels, k 256, sweeps of k 32 256 and n 64."""
    points: int | None = None
    """Noisy images z at each sigma; default 32 (the paper: 10 000)."""
    repeats: int | None = None
    """Evaluations of each estimator at each z; default 8 (the paper: 100)."""
    sigmas: tuple[float, ...] | None = None
    """Noise levels; default ten from 1 to 80."""
    k: int | None = None
    """Neighbours of knn-snis and knn-stratified; default 2048."""
    n: int = 256
    """Draws of knn-snis, posterior-mc and stf."""
    m: int = 256
    """Draws of knn-stratified beyond its neighbours."""
    sweep_k: tuple[int, ...] | None = None
    """Neighbours k of the sweeps; default 32 128 512 2048."""
    sweep_n: tuple[int, ...] | None = None
    """Draws n of the sweeps, each with all of --sweep-k; default 256 64."""
    index: str | None = None
    """Approximate search to compare with the exact one, such as ivf256-sq8 (made by `postmean index`)."""
    nprobe: int = 28
    """Partitions of an inverted file to search."""
    network: Path | None = None
    """Checkpoint or run of a trained denoiser to measure too."""
    images: int = 3
    """Images in the picture grids: the first alone, the others together."""
    seed: int = 0
    """Seed of the images, eps and all draws."""
    flips: bool = False
    """Treat horizontally flipped images as data too."""
    tolerance: float = 1e-6
    """Mean squared error per dimension allowed for auto."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the estimators compute; auto uses a GPU if there is one."""
    threads: int | None = None
    """CPU threads; default all cores that this process may use."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("threads",))

    def settings(self, device: str) -> "ReportSettings":
        """The sizes given; for the others, those of --quick if set, else the defaults."""
        from postmean.report.settings import FULL, QUICK

        names = [field.name for field in fields(FULL) if field.name != "device"]
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(QUICK if self.quick else FULL, **given, device=device)


COMMAND = CommandLine(
    name="report estimators",
    settings=ReportConfig,
    summary=SUMMARY,
    main="store out quick points repeats sigmas k n m index network images seed flips device",
)
_OTHERS = {"run": report_run, "store": report_store, "training": report_training, "hybrid": report_hybrid}
TOPICS: dict[str, CommandLine[Any]] = {name: each.COMMAND for name, each in _OTHERS.items()} | {"estimators": COMMAND}
"""What follows `postmean report`."""


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    if not argv or argv[0] in ("-h", "--help", "--help-all"):
        print(_USAGE)
        return 0 if argv else 2
    if argv[0] not in TOPICS:
        raise ConfigError(f"no report {argv[0]!r}{choice(argv[0], TOPICS)}")
    if argv[0] in _OTHERS:
        return _OTHERS[argv[0]].run(argv[1:])
    config, output = COMMAND.parse(argv[1:])
    from postmean.base.cores import usable_cores
    from postmean.base.device import choose_device
    from postmean.contract.image_store import ImageStore
    from postmean.engine.population import Population
    from postmean.engine.process_setup import threads
    from postmean.report.estimators import report_estimators
    from postmean.report.load_network import load_network
    from postmean.report.network import NetworkEstimator

    settings = config.settings(choose_device(config.device))
    store = ImageStore.open(config.store, output.progress)
    network, key = None, None
    if config.network is not None:
        denoiser, key = load_network(config.network, store, settings.device)
        network = NetworkEstimator(Population(store, settings.flips, device=settings.device), denoiser)
    with threads(config.threads or usable_cores()):
        report = report_estimators(store, config.out, settings, network, key, output.progress)
    text = f"{report.out}: {report.cells} cells, {report.computed} computed now; wrote {', '.join(report.files)}"
    output.report(report, text)
    return 0
