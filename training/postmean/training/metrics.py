"""The metrics log, one JSON object per line, the loss sums between two lines, and the memory of a process."""

import json
import math
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from postmean.base.errors import DataError
from postmean.base.files import write_file
from postmean.base.json_files import JsonError, parse_json

SIGMA_EDGES = (0.05, 0.2, 1.0, 4.0, 16.0)
"""Noise levels that separate the bins of loss_by_sigma."""


class LossSums:
    """Sums of losses since the last line. They stay on the device, so the training step never waits for them."""

    def __init__(self, device: torch.device) -> None:
        self._edges = torch.tensor(SIGMA_EDGES, device=device)
        self._sums = torch.zeros(2, len(SIGMA_EDGES) + 1, device=device, dtype=torch.float64)

    def add(self, loss: torch.Tensor, sigma: torch.Tensor) -> None:
        """Add losses [B] of images at noise levels [B]."""
        bins = torch.bucketize(sigma, self._edges)
        both = torch.stack((loss.detach().double(), torch.ones_like(loss, dtype=torch.float64)))
        self._sums.index_add_(1, bins, both)

    def take(self) -> torch.Tensor:
        """Sum and count of each bin, float64 [2, bins]; both restart at zero."""
        sums, self._sums = self._sums, torch.zeros_like(self._sums)
        return sums


def by_sigma(sums: torch.Tensor) -> dict[str, float]:
    """Mean loss of each non-empty bin, by bin name such as 0.2..1."""
    edges = ["0", *(f"{edge:g}" for edge in SIGMA_EDGES), "inf"]
    values = zip(edges, edges[1:], sums[0].tolist(), sums[1].tolist(), strict=False)
    return {f"{low}..{high}": total / count for low, high, total, count in values if count}


def peak_memory(device: torch.device) -> int:
    """Most bytes so far: of the CUDA device's tensors, or on a CPU of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class MetricsLog:
    """Appends to metrics.jsonl. A resumed run first drops the lines after its checkpoint: each step appears once."""

    def __init__(self, path: Path, resumed_step: int) -> None:
        self._path = path
        if path.exists():
            kept = [line for line in path.read_bytes().splitlines() if _step_of(line) <= resumed_step]
            write_file(path, b"".join(line + b"\n" for line in kept))

    def write(self, **values: Any) -> None:
        """Append one line."""
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:  # such as a full disk
            raise DataError(
                f"{self._path}: {error.strerror}: make room, and run the same command again to go on"
            ) from error


def _step_of(line: bytes) -> float:
    try:
        return float(parse_json(line)["step"])
    except (JsonError, KeyError, TypeError, ValueError, OverflowError):
        return math.inf  # cut off by a kill, or damaged
