"""The metrics log: one JSON object a line, and the sums between two lines."""

import json
from pathlib import Path
from typing import Any

import torch

from postmean.base.files import write_file

SIGMA_EDGES = (0.05, 0.2, 1.0, 4.0, 16.0)
"""Between the bins of loss_by_sigma."""


class LossSums:
    """Sums of losses since the last line, kept on the device so that the training step never waits for them."""

    def __init__(self, device: torch.device) -> None:
        self._edges = torch.tensor(SIGMA_EDGES, device=device)
        self._sums = torch.zeros(2, len(SIGMA_EDGES) + 1, device=device, dtype=torch.float64)

    def add(self, loss: torch.Tensor, sigma: torch.Tensor) -> None:
        """Losses [B] of images at noise levels [B]."""
        bins = torch.bucketize(sigma, self._edges)
        both = torch.stack((loss.detach().double(), torch.ones_like(loss, dtype=torch.float64)))
        self._sums.index_add_(1, bins, both)

    def take(self) -> torch.Tensor:
        """Sums and counts of each bin, float64 [2, bins], which start at zero again."""
        sums, self._sums = self._sums, torch.zeros_like(self._sums)
        return sums


def by_sigma(sums: torch.Tensor) -> dict[str, float]:
    """Mean loss of each bin that has any, by its name such as 0.2..1."""
    edges = ["0", *(f"{edge:g}" for edge in SIGMA_EDGES), "inf"]
    values = zip(edges, edges[1:], sums[0].tolist(), sums[1].tolist(), strict=False)
    return {f"{low}..{high}": total / count for low, high, total, count in values if count}


class MetricsLog:
    """Appends to metrics.jsonl. A resumed run drops the lines past its checkpoint, so that each step is there once."""

    def __init__(self, path: Path, resumed_step: int) -> None:
        self._path = path
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= resumed_step]
            write_file(path, "".join(line + "\n" for line in kept).encode())

    def write(self, **values: Any) -> None:
        """One line."""
        with self._path.open("a") as file:
            file.write(json.dumps(values) + "\n")


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # torn by a kill
