"""`postmean index STORE`: the self-join behind the certificate and, where asked for, a FAISS index."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from postmean.base.command_line import parse, print_report
from postmean.base.errors import ConfigError, DataError
from postmean.base.progress import Progress, duration


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """What to build beside a store."""

    store: Annotated[Path, tyro.conf.Positional]
    """Image store made by `postmean import`."""
    index: str = "exact"
    """exact needs no index of its own; flat, sq8, ivf<lists>-flat, ivf<lists>-sq8 build one with FAISS."""
    flips: bool = False
    """Whether horizontally flipped images are data too."""
    conditional: bool = False
    """Whether the posterior is over the images of one class."""
    nearest: int = 64
    """Neighbours an image that the self-join keeps."""
    tolerance: float = 1e-6
    """Mean squared error per dimension for which the certified sigma is shown (generate has its own)."""
    threads: int | None = None
    """CPU threads; default all cores."""
    json: bool = False
    """Print the report as JSON."""

    def __post_init__(self) -> None:
        for name in ("nearest", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name}: expected at least 1, got {value}")
        if not 0 < self.tolerance < 1:
            raise ConfigError(f"--tolerance: expected a mean squared error in (0, 1), got {self.tolerance}")


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config = parse(IndexConfig, argv, "index", "Build the self-join (certificate) of a store, and a FAISS index.")
    import os
    import time

    import numpy as np
    import torch

    from postmean.contract.image_store import ImageStore
    from postmean.engine.process_setup import prepare_process
    from postmean.neighbours.certificate import certified_sigma
    from postmean.neighbours.faiss_search import FaissSpec, build
    from postmean.neighbours.self_join import SelfJoin, self_join

    spec = None if config.index == "exact" else FaissSpec(config.index)
    store = ImageStore.open(config.store)
    prepare_process(config.threads or os.cpu_count() or 1)
    began = time.monotonic()
    join = SelfJoin.find(store, config.flips, config.conditional, config.nearest)
    made = join is None
    if join is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with Progress("self-join", len(store), "images") as progress:
            join = self_join(store, config.flips, config.conditional, config.nearest, device, progress.update)
        with _write_errors(store.path):
            join.save(store)
    path = join.path(store, config.flips, config.conditional)
    certified = certified_sigma(join, config.tolerance, store.dim)
    report: dict[str, Any] = {
        "self_join": str(path),
        "self_join_seconds": time.monotonic() - began,
        "certified_sigma": {f"q{q}": float(np.quantile(certified, q / 100)) for q in (1, 10, 50, 90, 99)},
    }
    took = f"in {duration(report['self_join_seconds'])}" if made else "was there already"
    text = (
        f"{path}: self-join of {len(store):,} images {took}; certified sigma at "
        f"tolerance {config.tolerance:g}: median {report['certified_sigma']['q50']:.3g}, "
        f"1 % below {report['certified_sigma']['q1']:.3g}"
    )
    if spec is not None:
        began = time.monotonic()
        entries = len(store) * (2 if config.flips else 1)
        with Progress(f"index {spec.name}", entries, "vectors") as progress, _write_errors(store.path):
            report["index"] = str(build(store, spec, config.flips, progress.update))
        report["index_seconds"] = time.monotonic() - began
        text += f"\n{report['index']}: built in {duration(report['index_seconds'])}"
    print_report(report, text, config.json)
    return 0


@contextmanager
def _write_errors(store: Path) -> Iterator[None]:
    """One line where the store's disk is full or may not be written."""
    try:
        yield
    except OSError as error:
        folder = store / "index"
        raise DataError(f"{folder}: cannot write: {error.strerror}: free space or make it writable") from error
