"""A batch of training targets."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch


@dataclass(frozen=True)
class TargetBatch:
    """B tuples as torch tensors on the CPU; images are float32 [B, C, H, W] in [-1, 1] (z and eps unbounded)."""

    tuple_id: torch.Tensor
    """int64 [B]"""
    z: torch.Tensor
    """x + sigma eps, the canonical noisy image"""
    sigma: torch.Tensor
    """float32 [B]"""
    sigma_next: torch.Tensor | None
    """float32 [B], level of the teacher point; None where the noise distribution has none"""
    x: torch.Tensor
    """the image that the tuple was made from"""
    eps: torch.Tensor
    mean: torch.Tensor
    """E[x | z, sigma], or E[x | z, sigma, label] of a conditional run; with solver = heun-M the average of the means on
    the way to the teacher point"""
    mean_next: torch.Tensor | None
    """posterior mean at the Euler point of level sigma_next; only with solver = heun"""
    label: torch.Tensor | None
    """int64 [B], None where the store has no labels"""
    certified: torch.Tensor
    """bool [B], whether the certificate makes mean = x"""
    ess: torch.Tensor
    """float32 [B], effective sample size of the mean's weights, >= 1; 1 where certified"""
    variance: torch.Tensor
    """float32 [B], posterior variance per dimension, which no loss at z can go below; 0 where certified"""
    top_weight: torch.Tensor
    """float32 [B], largest weight of the mean, in (0, 1]; 1 where certified"""

    def __len__(self) -> int:
        return len(self.tuple_id)

    def to(self, device: torch.device | str) -> "TargetBatch":
        """The batch on another device; from pinned memory the copy is asynchronous."""
        return self._map(lambda column: column.to(device, non_blocking=True))

    def pin_memory(self) -> "TargetBatch":
        """The batch in page-locked memory."""
        return self._map(torch.Tensor.pin_memory)

    def rows(self, start: int, stop: int) -> "TargetBatch":
        """Tuples start .. stop - 1 of the batch."""
        return self._map(lambda column: column[start:stop])

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "TargetBatch":
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        columns = {name: None if c is None else change(c) for name, c in columns.items()}
        return TargetBatch(**columns)
