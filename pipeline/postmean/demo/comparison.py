"""The means of a run's tuples at fixed noise levels: exact, by the estimators, and by the trained network."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from postmean.contract.image_store import ImageStore
from postmean.contract.noisy import noisy
from postmean.contract.plan import uncertified
from postmean.contract.settings import EstimatorSettings
from postmean.estimators.float64 import exact_mean
from postmean.estimators.replica import Replica
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage

SIGMAS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 5.0)
TUPLES = 256
K = 64
"""Neighbours and draws of the paper's estimator: 4 % of the images are neighbours, like 2 048 of CIFAR-10's 50 000."""


@dataclass(frozen=True)
class Comparison:
    """Means of the same tuples at each of S noise levels, [S, n, C, H, W] in [-1, 1]."""

    sigma: tuple[float, ...]
    z: np.ndarray
    exact: np.ndarray
    """Computed in float64 over the whole data set."""
    means: dict[str, np.ndarray]
    """Kind -> means."""

    def error(self, kind: str) -> np.ndarray:
        """Mean squared error per dimension of each tuple, [S, n]."""
        return np.square(self.means[kind] - self.exact).mean((2, 3, 4))

    def rows(self) -> list[dict[str, float]]:
        """One row per sigma: kind -> error averaged over the tuples."""
        errors = {kind: self.error(kind).mean(1).tolist() for kind in self.means}
        return [{"sigma": s} | {kind: errors[kind][row] for kind in errors} for row, s in enumerate(self.sigma)]


def compare(targets: Path, store_path: Path, model: Path) -> Comparison:
    """Means of the first tuples of a run, moved to each of SIGMAS.

    Kinds: single-sample (the image itself, the usual training target), stf and knn-snis (with 64 draws), postmean
    (the targets of the run's trainer) and network (the trained denoiser).
    """
    from postmean.training.checkpoint import load_denoiser

    run, store = RunFolder(open_storage(targets)), ImageStore.open(store_path)
    manifest = run.read_manifest()
    certified, source = run.read_certified_sigma(), manifest.tuple_source()
    denoiser = load_denoiser(model)
    replicas = {"postmean": Replica(manifest, store, certified)}
    names = ("stf", "knn-snis")
    for name in names:
        settings = EstimatorSettings(name=name, k=K, n=K, m=K)
        replicas[name] = Replica(replace(manifest, estimator=settings), store, None)
    tuples = source.block(0, TUPLES)
    zs, exacts = [], []
    means: dict[str, list[np.ndarray]] = {
        kind: [] for kind in ("single-sample", "stf", "knn-snis", "postmean", "network")
    }
    for sigma in SIGMAS:
        block = replace(tuples, sigma=np.full(TUPLES, sigma, np.float32))
        x, _, z = noisy(source, store, block)
        zs.append(z)
        exact = exact_mean(store, np.arange(source.entries), z.reshape(TUPLES, -1), block.sigma)
        exacts.append(exact.reshape(x.shape))
        means["single-sample"].append(x)
        for name in names:
            means[name].append(replicas[name].estimate(block).mean.decode(store))
        recorded = np.flatnonzero(uncertified(source, block, certified))
        mean = x.copy()
        if len(recorded):
            mean[recorded] = replicas["postmean"].estimate(block.select(recorded)).mean.decode(store)
        means["postmean"].append(mean)
        with torch.no_grad():
            means["network"].append(denoiser(torch.from_numpy(z), torch.from_numpy(block.sigma)).numpy())
    return Comparison(SIGMAS, np.stack(zs), np.stack(exacts), {kind: np.stack(m) for kind, m in means.items()})


def data_wait_share(model: Path) -> float:
    """Share of its time that a training run waited for targets, over all lines of its metrics."""
    total = waited = last = 0.0
    for line in (model / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        took = (row["kimg"] - last) * 1000 / row["images_per_second"]
        total, waited, last = total + took, waited + took * row["data_wait_share"], row["kimg"]
    return waited / total
