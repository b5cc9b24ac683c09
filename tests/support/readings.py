"""What users get out of a world of files: one function a kind of reading, each giving something to compare."""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from postmean.contract.image_store import ImageStore
from postmean.engine.population import Population
from postmean.fleet.backlog import PlannedShards
from postmean.neighbours.faiss_search import FaissSearch
from postmean.neighbours.faiss_spec import FaissSpec
from postmean.runs import status
from postmean.runs.job import prepare
from postmean.runs.pace import Pace
from postmean.shards.retention import deleted_shards
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.training.checkpoint import load_denoiser, load_state, read_card
from postmean.training.stream.stream import TargetStream
from tests.support.settings import generate_config


def targets(root: Path, run: str) -> str:
    """Hash of every target that a trainer gets."""
    digest = hashlib.sha256()
    for batch in TargetStream.open(root / run, root / "store", 50):
        for column in (batch.tuple_id, batch.z, batch.sigma, batch.x, batch.mean, batch.label, batch.certified):
            assert column is not None
            digest.update(column.numpy().tobytes())
    return digest.hexdigest()


def planned(root: Path) -> tuple[Any, ...]:
    """Manifest, certificate and plan of a new run."""
    config = generate_config(root / "store", "nowhere", tuples=600, records_per_shard=64, estimator="exact")
    job = prepare(config, None)
    assert job.certified_sigma is not None
    return job.manifest, job.certified_sigma.tobytes(), job.plan.sha256()


def resumed(root: Path) -> tuple[Any, ...]:
    """Manifest, certificate, plan and committed shards of the run, as a driver reads them to extend it."""
    run = RunFolder(open_storage(root / "tar"))
    settings = dict(tuples=900, records_per_shard=64, estimator="exact", max_support=8)
    job = prepare(generate_config(root / "store", root / "tar", **settings), run)
    assert job.certified_sigma is not None
    return job.manifest, job.certified_sigma.tobytes(), job.plan.sha256(), run.committed().tolist()


def neighbours(root: Path) -> bytes:
    """Neighbours of every image, by the FAISS index."""
    store = ImageStore.open(root / "store")
    search = FaissSearch(Population(store, False), FaissSpec("ivf8-sq8"), 4)
    z = torch.from_numpy(np.asarray(store.images, np.float32).reshape(len(store), -1) / 127.5 - 1)
    found = search.search(z, np.full(len(z), 0.5), 10)
    return found.member.tobytes() + found.distance2.tobytes()


def lost(root: Path) -> tuple[int, int]:
    """How many shards generation has deleted, and how many it may delete now; without deleting any."""
    run = RunFolder(open_storage(root / "followed"))
    before = deleted_shards(run)
    kept: list[str] = []
    run.storage.delete = kept.append  # type: ignore[method-assign]
    run.storage.put = lambda path, data: None  # type: ignore[method-assign]
    Pace(run, PlannedShards([]), None, 2, True, 60.0).look()
    return before, len(kept)


def reported(root: Path) -> status.RunStatus:
    """What `postmean status` shows, without the time since the driver's last heartbeat."""
    at_work, status.is_at_work = status.is_at_work, partial(status.is_at_work, beat_seconds=0.001)
    try:
        return replace(status.read_status(open_storage(root / "followed")), holder=None)
    finally:
        status.is_at_work = at_work


def weights(root: Path) -> str:
    """Hash of all that a checkpoint gives to samplers and to a trainer that resumes."""
    checkpoint = root / "model" / "checkpoints" / "00000002"
    digest = hashlib.sha256(repr(read_card(checkpoint)).encode())
    denoiser = load_denoiser(checkpoint)
    digest.update(repr(sorted(denoiser.network.unet.config.items())).encode())  # type: ignore[union-attr]
    for tensors in (denoiser.state_dict(), load_state(checkpoint)):
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
