"""Pixels of all classes of a store on a GPU, in blocks that one batched product takes.

The rows of a class lie side by side, padded with zeros to a multiple of 64, and classes of equal padded size lie one
after the other. A block is some of these: a view [classes, rows, columns] of the pixels. A class's population shares
its rows.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from postmean.contract.image_store import ImageStore
from postmean.engine import norm_columns
from postmean.engine.pixels import Pixels, fits_on_device, on_gpu
from postmean.engine.population import Population

MULTIPLE = 64
"""Of the rows of a class: sizes of products that a GPU multiplies at full rate, at little padding."""
_BLOCK_VALUES = 1 << 32  # pixels in a block: hundreds of classes of 64x64


@dataclass(frozen=True)
class Block:
    """Some classes of equal padded size."""

    labels: np.ndarray
    """int64 [G]"""
    first: int
    """Row of the first class's first image"""
    rows: int
    """Padded size of each class"""

    @property
    def all_rows(self) -> slice:
        """The rows of the block."""
        return slice(self.first, self.first + len(self.labels) * self.rows)


@dataclass(frozen=True)
class ClassBlocks:
    """The classes of a store, without flips.

    Args:
        stored: float16 signed pixels, [rows, columns] on the device. entry: image of each row, int64, -1 where padded.
        first: the first row of each class, int64.
    """

    store: ImageStore
    device: str
    stored: torch.Tensor
    entry: np.ndarray
    first: np.ndarray
    blocks: list[Block]

    @classmethod
    def of(cls, store: ImageStore, device: str, workspace: float) -> "ClassBlocks | None":
        """All pixels, copied to a GPU; None if they do not fit there beside the workspace, in bytes."""
        assert store.labels is not None
        count = np.bincount(store.labels, minlength=store.classes)
        padded = -(-count // MULTIPLE) * MULTIPLE
        by_size = np.lexsort((np.arange(len(count)), padded))
        by_size = by_size[count[by_size] > 0]
        first = np.zeros(len(count), np.int64)
        first[by_size] = np.concatenate([[0], np.cumsum(padded[by_size])[:-1]])
        entry = np.full(int(padded.sum()), -1)
        images = np.argsort(store.labels, kind="stable")  # by class
        label = store.labels[images].astype(np.int64)
        entry[first[label] + np.arange(len(images)) - np.searchsorted(label, label)] = images
        if not fits_on_device(len(entry), store.dim, device, workspace):
            return None
        pixels = on_gpu(store.images.reshape(len(store), -1), np.maximum(entry, 0), device, torch.float16, workspace)
        pixels.stored[torch.from_numpy(np.flatnonzero(entry < 0)).to(device)] = 0
        blocks: list[Block] = []
        for rows in np.unique(padded[by_size]).tolist():
            labels = by_size[padded[by_size] == rows]
            blocks += make_blocks(labels, first, rows, store.dim)
        return cls(store, device, pixels.stored[: len(entry)], entry, first, blocks)

    @property
    def dim(self) -> int:
        """D"""
        return self.store.dim

    @property
    def rows_at_a_time(self) -> int:
        """As of a population."""
        return Population(self.store, False, device=self.device).rows_at_a_time

    def rows(self, member: np.ndarray) -> torch.Tensor:
        """Pixels of these rows, float16 [n, D] on the device."""
        return self.stored.index_select(0, torch.from_numpy(member).to(self.device))[:, : self.dim]

    def pixels(self, block: Block) -> torch.Tensor:
        """Pixels of a block, float16 [G, rows, columns]."""
        return self.stored[block.all_rows].view(len(block.labels), block.rows, -1)

    @cached_property
    def norm2(self) -> torch.Tensor:
        """Squared norms of all rows, float32 [rows] on the device; infinite where padded: the weights there are 0."""
        norm2 = norm_columns.norm2(self.stored, self.dim).to(torch.float32)
        norm2[torch.from_numpy(np.flatnonzero(self.entry < 0)).to(self.device)] = torch.inf
        return norm2

    @cached_property
    def spread(self) -> float:
        """As of the population of all images."""
        real = torch.from_numpy(np.flatnonzero(self.entry >= 0)).to(self.device)
        mean = self.norm2[real].to(torch.float64).mean() - self._mean.square().sum()
        return 2 * float(mean.clamp(min=1.0).sqrt())

    @cached_property
    def _mean(self) -> torch.Tensor:
        total = torch.zeros(self.dim, dtype=torch.float64, device=self.device)
        for start in range(0, len(self.stored), self.rows_at_a_time):
            total += self.stored[start : start + self.rows_at_a_time, : self.dim].sum(0, dtype=torch.float32)
        return total / len(self.store)

    def population(self, label: int) -> Population:
        """The population of a class, whose pixels are those here."""
        population = Population(self.store, False, label, self.device)
        count, start = len(population), int(self.first[label])
        rows = self.stored[start : start + -(-count // MULTIPLE) * MULTIPLE]
        population.__dict__["pixels"] = Pixels(rows, count, self.dim, self.device, torch.float16)  # a cached property
        return population


def make_blocks(labels: np.ndarray, first: np.ndarray, rows: int, dim: int) -> list[Block]:
    """Classes of one padded size in blocks.

    Args:
        labels: int64, in order of their rows. first: the first row of every class.
    """
    at_a_time = max(1, _BLOCK_VALUES // (rows * dim))
    parts = [labels[start : start + at_a_time] for start in range(0, len(labels), at_a_time)]
    return [Block(part, int(first[part[0]]), rows) for part in parts]
