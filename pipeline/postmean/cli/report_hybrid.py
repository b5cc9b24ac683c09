"""`postmean report hybrid STORE`: samples by the exact posterior mean down to a noise level, then by a network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from postmean.base.checks import check_at_least_one
from postmean.base.command_line import CommandLine
from postmean.base.places import PositionalStore

SUMMARY = (
    "Samples by the exact posterior mean down to --sigma-switch, then by a network, beside training images noised to "
    "it and the network alone (Niedoba et al. 2024, Figure 5)."
)


@dataclass(frozen=True, kw_only=True)
class HybridConfig:
    """Which store and network, and where they switch."""

    store: PositionalStore
    """Image store made by `postmean import`: folder or URL."""
    network: Path
    """Checkpoint or run of a trained unconditional denoiser."""
    out: Path
    """Folder for the table and the pictures; drawn images are kept in its parts/."""
    sigma_switch: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    """Noise levels at which the network takes over."""
    count: int = 1000
    """Images of each kind at each level."""
    steps: int = 18
    """Steps of Heun's method from 80 to 0.002."""
    seed: int = 0
    """Seed of the noise and the training images: image n of a seed is always the same image."""
    flips: bool = False
    """Treat horizontally flipped images as data too."""
    batch_size: int = 256
    """Images drawn at once."""
    feature_extractor_weights: Path | None = None
    """Inception weights in torch-fidelity's format: adds FID against the store."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it computes; auto uses a GPU if there is one."""
    threads: int | None = None
    """CPU threads; default all cores that this process may use."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("threads",))


COMMAND = CommandLine(
    name="report hybrid",
    settings=HybridConfig,
    summary=SUMMARY,
    main="store network out sigma-switch count steps seed flips feature-extractor-weights device",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    from postmean.base.cores import usable_cores
    from postmean.base.device import choose_device
    from postmean.contract.image_store import ImageStore
    from postmean.engine.process_setup import threads
    from postmean.estimators.posterior_mean import PosteriorMean
    from postmean.report.hybrid import HybridImages, HybridSettings
    from postmean.report.load_network import load_network
    from postmean.report.report_hybrid import report_hybrid

    settings = HybridSettings(
        sigma_switch=config.sigma_switch,
        count=config.count,
        steps=config.steps,
        seed=config.seed,
        batch_size=config.batch_size,
    )
    store, device = ImageStore.open(config.store, output.progress), choose_device(config.device)
    network, key = load_network(config.network, store, device)
    exact = PosteriorMean(store, flips=config.flips, device=device)
    images = HybridImages(store, exact, network, settings, config.flips, device)
    with threads(config.threads or usable_cores()):
        report = report_hybrid(images, config.out, key, config.feature_extractor_weights, output.progress)
    output.report(report, f"{report.out}: wrote {', '.join(report.files)}")
    return 0
