"""Index a store: the self-join behind the certificate and, if asked for, a FAISS index, in units that are committed."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from postmean.base.cores import usable_cores
from postmean.base.device import usable_device
from postmean.base.environment import cluster_address
from postmean.base.extras import check_installed
from postmean.base.files import remove_leftovers
from postmean.base.progress import ShowProgress, shown
from postmean.contract.image_store import ImageStore
from postmean.engine.population import Population
from postmean.engine.process_setup import threads
from postmean.fleet.ray_session import cluster_device
from postmean.neighbours.certificate import certified_sigma
from postmean.neighbours.faiss_gpu import check_here, check_kind
from postmean.neighbours.faiss_search import index_path
from postmean.neighbours.faiss_spec import FaissSpec
from postmean.neighbours.index_work import IndexSpec
from postmean.neighbours.join_plan import default_block
from postmean.neighbours.self_join import SelfJoin
from postmean.runs.index_config import IndexConfig
from postmean.runs.index_job import make_index


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What lies beside the store now."""

    images: int
    self_join: str
    """Path or URL of the self-join."""
    computed: bool
    """Whether this call computed the self-join; False if it existed already."""
    self_join_seconds: float
    certified_sigma: dict[str, float]
    """Quantiles over the images, by name: q1, q10, q50, q90, q99 (in percent)."""
    index: str | None
    """Path or URL of the FAISS index, None if none was asked for."""
    index_seconds: float | None


def index(config: IndexConfig, progress: bool | ShowProgress = True) -> IndexReport:
    """Compute the self-join of a store unless it is there, then build the FAISS index. Calling it again resumes.

    The work is done in this process; by a fleet if `actors` is set, this machine has several GPUs, or RAY_ADDRESS names
    a cluster. What is written is the same.

    >>> report = index(IndexConfig(store=digits.path, threads=1), progress=False)
    >>> report.images, report.computed
    (300, False)

    Args:
        progress: whether to show the steps: `self-join`, `merge`, and for FAISS `train NAME` and `index NAME`.
    Raises:
        ConfigError: the index name is unknown, the store has too few entries for it, FAISS is not installed, or the GPU
            does not take the index.
        DataError: the store cannot be read, or has no labels for conditional targets.
        GenerationError: it cannot be written to, another call is at work there, or units failed for good: the next call
            makes these.
    """
    show, began = shown(progress), time.monotonic()
    faiss = None if config.index == "exact" else FaissSpec(config.index)
    if faiss is not None:
        check_installed("faiss", "faiss")  # before the self-join, which takes minutes
    store, device = ImageStore.open(config.store, show), _device(config.device)
    if store.remote is not None:
        store.remote.check_writable()
    if faiss is not None and device == "cuda":
        check_kind(faiss)
        if not cluster_address():  # its GPUs are on other machines
            check_here(faiss, Population(store, config.flips, device=device))
    remove_leftovers(store.path / "index")
    stored = SelfJoin.find(store, config.flips, config.conditional, config.nearest)
    if stored is not None and store.remote is not None:  # an earlier call may not have come so far
        store.remote.share_index(stored.path(store, config.flips, config.conditional))
    spec = IndexSpec(
        store_fingerprint=store.header.fingerprint,
        flips=config.flips,
        conditional=config.conditional,
        nearest=config.nearest,
        block=config.block_images or default_block(len(store)),
        joins=stored is None,
        faiss=faiss.name if faiss else None,
    )
    join, index_seconds = stored, 0.0
    with threads(config.threads or usable_cores()):
        if spec.joins or faiss is not None:
            made, index_seconds = make_index(config, spec, store, device, show)
            join = join or made
        assert join is not None
        certified = certified_sigma(join, config.tolerance, store.dim)
    return IndexReport(
        images=len(store),
        self_join=_beside(store, join.path(store, config.flips, config.conditional)),
        computed=stored is None,
        self_join_seconds=time.monotonic() - began - index_seconds,
        certified_sigma={f"q{q}": float(np.quantile(certified, q / 100)) for q in (1, 10, 50, 90, 99)},
        index=_beside(store, index_path(store, faiss, config.flips)) if faiss else None,
        index_seconds=index_seconds if faiss else None,
    )


def _beside(store: ImageStore, path: Path) -> str:
    """Where a file of the index lies for all: beside the store, not in this node's copy of it."""
    return str(path) if store.remote is None else f"{store.remote.url}/index/{path.name}"


def _device(asked: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    if cluster_address():  # its GPUs are on other machines
        return cluster_device() if asked == "auto" else asked
    return "cuda" if usable_device(asked).type == "cuda" else "cpu"
