"""Index a store: write the self-join behind the certificate and, if asked for, a FAISS index beside it."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from postmean.base.cores import usable_cores
from postmean.base.device import usable_device
from postmean.base.errors import DataError
from postmean.base.extras import check_installed
from postmean.base.files import remove_leftovers
from postmean.base.progress import ShowProgress, shown
from postmean.contract.image_store import ImageStore
from postmean.engine.population import Population
from postmean.engine.process_setup import threads
from postmean.neighbours.certificate import certified_sigma
from postmean.neighbours.config import IndexConfig
from postmean.neighbours.faiss_gpu import check_here
from postmean.neighbours.faiss_search import build
from postmean.neighbours.faiss_spec import FaissSpec
from postmean.neighbours.self_join import SelfJoin, self_join


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What lies beside the store now."""

    images: int
    self_join: str
    """Path of the self-join."""
    computed: bool
    """Whether this call computed the self-join; False if it existed already."""
    self_join_seconds: float
    certified_sigma: dict[str, float]
    """Quantiles over the images, by name: q1, q10, q50, q90, q99 (in percent)."""
    index: str | None
    """Path of the FAISS index, None if none was asked for."""
    index_seconds: float | None


def index(config: IndexConfig, progress: bool | ShowProgress = True) -> IndexReport:
    """Compute the self-join of a store unless it is there, then build the FAISS index.

    >>> report = index(IndexConfig(store=digits.path, threads=1), progress=False)
    >>> report.images, report.computed
    (300, False)

    Args:
        progress: whether to show the two steps, `self-join` and `index NAME`.
    Raises:
        ConfigError: the index name is unknown, the store has too few entries for it, FAISS is not installed, or the GPU
            does not take the index.
        DataError: the store cannot be read, has no labels for conditional targets, or cannot be written to.
    """
    show = shown(progress)
    spec = None if config.index == "exact" else FaissSpec(config.index)
    if spec is not None:
        check_installed("faiss", "faiss")  # before the self-join, which takes minutes
    store, device = ImageStore.open(config.store, show), usable_device(config.device).type
    if store.remote is not None:
        store.remote.check_writable()
    if spec is not None and device == "cuda":
        check_here(spec, Population(store, config.flips, device=device))
    remove_leftovers(store.path / "index")
    with threads(config.threads or usable_cores()):
        began = time.monotonic()
        stored = SelfJoin.find(store, config.flips, config.conditional, config.nearest)
        join = _compute_self_join(config, store, device, show) if stored is None else stored
        if stored is not None and store.remote is not None:  # an earlier call may not have come so far
            store.remote.share_index(join.path(store, config.flips, config.conditional))
        certified = certified_sigma(join, config.tolerance, store.dim)
        self_join_seconds = time.monotonic() - began
        began = time.monotonic()
        faiss_index = None
        if spec is not None:
            entries = len(store) * (2 if config.flips else 1)
            with show(f"index {spec.name}", entries, "vectors") as line, _write_errors(store.path):
                faiss_index = str(build(store, spec, config.flips, line.update))
    return IndexReport(
        images=len(store),
        self_join=str(join.path(store, config.flips, config.conditional)),
        computed=stored is None,
        self_join_seconds=self_join_seconds,
        certified_sigma={f"q{q}": float(np.quantile(certified, q / 100)) for q in (1, 10, 50, 90, 99)},
        index=faiss_index,
        index_seconds=None if faiss_index is None else time.monotonic() - began,
    )


def _compute_self_join(config: IndexConfig, store: ImageStore, device: str, progress: ShowProgress) -> SelfJoin:
    with progress("self-join", len(store), "images") as line:
        join = self_join(store, config.flips, config.conditional, config.nearest, device, line.update)
    with _write_errors(store.path):
        join.save(store)
    return join


@contextmanager
def _write_errors(store: Path) -> Generator[None, None, None]:
    """Turn an OSError (disk full, not writable) into a DataError of one line."""
    try:
        yield
    except OSError as error:
        folder = store / "index"
        raise DataError(f"{folder}: cannot write: {error.strerror}: free space or make it writable") from error
