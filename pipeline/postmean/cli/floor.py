"""`postmean floor STORE`: the mean squared error by sigma that no denoiser of a data set can go below."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from postmean.base.checks import check_at_least, check_at_least_one
from postmean.base.command_line import CommandLine

if TYPE_CHECKING:
    from postmean.contract.image_store import ImageStore
    from postmean.contract.noise import FloorNoise
    from postmean.report.floor import FloorPoint


@dataclass(frozen=True, kw_only=True)
class FloorConfig:
    """Which store, at which noise levels, and how exactly."""

    store: Annotated[Path, tyro.conf.Positional]
    """Image store made by `postmean import`; after `postmean index`, certified images are not sampled."""
    out: Path | None = None
    """Folder for floor.svg, floor.parquet and noise.yaml, which `generate` and `train` take as --config."""
    samples: int = 256
    """Noisy images at each sigma."""
    sigmas: tuple[float, ...] | None = None
    """Noise levels; default 31 from 0.01 to 328 in half octaves."""
    flips: bool = False
    """Treat horizontally flipped images as data too."""
    conditional: bool = False
    """The floor of denoisers that know the class."""
    seed: int = 0
    """Seed of the images and eps."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it is computed; auto uses a GPU if there is one."""
    threads: int | None = None
    """CPU threads; default all cores that this process may use."""

    def __post_init__(self) -> None:
        check_at_least(self, "samples", 2)
        check_at_least_one(self, ("threads",))


COMMAND = CommandLine(
    name="floor",
    settings=FloorConfig,
    summary="The loss floor E Var(x | z, sigma) of a store: the mean squared error that no denoiser can go below.",
    main="store out samples sigmas flips conditional seed device",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    import numpy as np

    from postmean.base.cores import usable_cores
    from postmean.base.device import choose_device
    from postmean.base.extras import check_installed
    from postmean.base.paths import out_folder
    from postmean.contract.image_store import ImageStore
    from postmean.contract.noise.floor import floor_noise
    from postmean.engine.process_setup import threads
    from postmean.report.floor import SIGMAS, FloorSettings, floor_curve, information

    store = ImageStore.open(config.store)
    out = None
    if config.out is not None:
        check_installed("report", "matplotlib")
        out = out_folder(config.out, "a floor")
    settings = FloorSettings(
        sigmas=config.sigmas or SIGMAS,
        samples=config.samples,
        seed=config.seed,
        flips=config.flips,
        conditional=config.conditional,
        device=choose_device(config.device),
    )
    with threads(config.threads or usable_cores()):
        points = floor_curve(store, settings, output.progress)
    noise = None
    if len(points) > 1 and any(point.floor > 0 for point in points):
        sigma, floor = np.array([[point.sigma, point.floor] for point in points]).T
        noise = floor_noise(sigma, floor, store.dim)
    report = {
        "store": str(config.store),
        "images": len(store),
        "dim": store.dim,
        "information_nats": information(points, store.dim),
        "points": [asdict(point) for point in points],
        "noise": None if noise is None else asdict(noise),
        "out": None if out is None else str(out),
    }
    if out is not None:
        _write(out, store, points, noise)
    output.report(report, _text(report))
    return 0


def _write(out: Path, store: "ImageStore", points: "list[FloorPoint]", noise: "FloorNoise | None") -> None:
    import pyarrow as pa

    from postmean.base.config_file import write_settings
    from postmean.report.floor_picture import floor_picture
    from postmean.report.table import write_parquet

    columns = {name: [getattr(point, name) for point in points] for name in asdict(points[0])}
    write_parquet(pa.table(columns), out / "floor.parquet")
    floor_picture(out / "floor.svg", f"Loss floor: {store.where.rpartition('/')[2]}", points, store.dim, noise)
    if noise is not None:
        write_settings(_NoiseFile(recipe=_RecipeFile(noise=noise)), out / "noise.yaml")


@dataclass(frozen=True, kw_only=True)
class _RecipeFile:
    noise: Any


@dataclass(frozen=True, kw_only=True)
class _NoiseFile:
    """A file of settings that holds a noise alone."""

    recipe: _RecipeFile


def _text(report: dict[str, Any]) -> str:
    import math

    lines = [
        f"{report['store']}: loss floor per dimension, x in [-1, 1]",
        f"{'sigma':>9} {'floor':>10} {'std error':>10} {'certified':>10}  bound of these",
    ]
    lines += [
        f"{p['sigma']:>9g} {p['floor']:>10.3e} {p['standard_error']:>10.1e} {p['certified']:>10.1%}  {p['bound']:.0e}"
        for p in report["points"]
    ]
    lines.append(
        f"integral of D floor / sigma^2 over ln sigma: {report['information_nats']:.2f} nats; ln N is "
        f"{math.log(report['images']):.2f} (with flips ln 2N; with classes less)"
    )
    if report["out"]:
        lines.append(f"wrote {report['out']}: `postmean generate PRESET --config {report['out']}/noise.yaml ...`")
    return "\n".join(lines)
