"""The join of two blocks of images: every pair's distance once, entered for both images.

A block's images keep their K smallest distances and counts of all of them by bin (`distance_table`). Distances are
exact integers, |s_i - s_j|^2 from int8 products in int32.

With flips, the distance from image i to the mirror image of j is that from j to the mirror image of i, so one product
more for each pair serves both.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from threading import Lock

import torch
import torch.nn.functional as F

from postmean.engine.population import Population
from postmean.engine.process_setup import threads
from postmean.engine.products import int8_product
from postmean.neighbours.distance_table import BINS, bins_of, count

FAR = torch.iinfo(torch.int32).max
"""Squared distance where there is no other member, and of an image to itself."""
_ROWS, _COLUMNS = 1024, 2048  # images of both sides that are multiplied at a time: with fewer, products are slower
_GPU_ROWS, _GPU_COLUMNS = 4096, 16_384
_NORMS = 256  # images whose products with each other give their norms


class Nearest:
    """The K smallest squared distances of each image of a block, and counts of all of them. Threads may add to it."""

    def __init__(self, images: int, nearest: int, device: str) -> None:
        self.distance2 = torch.full((images, nearest), FAR, dtype=torch.int32, device=device)
        """int32 [images, K], rising"""
        self.counts = torch.zeros((images, BINS), dtype=torch.int32, device=device)
        """int32 [images, bins]"""
        self._lock = Lock()

    def add(self, start: int, distance2: torch.Tensor, bins: torch.Tensor, span: tuple[int, int], axis: int) -> None:
        """Enter distances of the images start .. start + n - 1 of the block.

        Args:
            distance2: int32, [n, m], or [m, n] with axis 1. bins: of them, likewise. span: first and last bin.
            axis: of this block's images.
        """
        images, nearest = distance2.shape[axis], self.distance2.shape[1]
        rows = slice(start, start + images)
        counted = count(bins, span, axis)
        bound = self.distance2[rows, -1:]  # it may fall meanwhile: a looser bound only lets more through
        if int(bound.max()) == FAR:  # the first distances
            listed = distance2 if axis == 0 else distance2.t()
        else:
            listed = _listed(distance2, distance2 < (bound if axis == 0 else bound.t()), axis)
        with self._lock:
            self.counts[rows, span[0] : span[1] + 1] += counted
            if listed.shape[1]:
                every = torch.cat([self.distance2[rows], listed], 1)
                self.distance2[rows] = every.topk(nearest, dim=1, largest=False).values


def _listed(distance2: torch.Tensor, near: torch.Tensor, axis: int) -> torch.Tensor:
    """The distances that are `near`, one list for each image along `axis`, padded to the longest with FAR."""
    place = near.nonzero()
    image, value = place[:, axis], distance2[place[:, 0], place[:, 1]]
    if axis == 1:
        image, order = image.sort()
        value = value[order]
    length = torch.bincount(image, minlength=near.shape[axis])
    listed = torch.full((len(length), int(length.max())), FAR, dtype=torch.int32, device=near.device)
    first = length.cumsum(0) - length
    listed[image, torch.arange(len(image), device=near.device) - first[image]] = value
    return listed


class BlockJoin:
    """Enters the distances of all pairs of images of two blocks, or of all pairs within one, on both sides.

    Args:
        population: what the images belong to.
        left, right: a block, as the population's images of these numbers, and where to enter their distances; the same
            twice for a block with itself.
    """

    def __init__(self, population: Population, left: tuple[range, Nearest], right: tuple[range, Nearest]) -> None:
        self._population = population
        self._left, self._near_left = left
        self._right, self._near_right = right
        self._is_one = left[0] == right[0]
        self._left_norm2 = _norms(population, self._left)
        self._right_norm2 = self._left_norm2 if self._is_one else _norms(population, self._right)

    def run(self, cores: int = 1, progress: Callable[[int], None] = lambda pairs: None) -> None:
        """Enter all pairs.

        Args:
            cores: CPU threads; a GPU takes one.
            progress: called with the number of pairs entered so far, rising.
        """
        on_cpu = self._population.device == "cpu"
        at_once, wide = (_ROWS, _COLUMNS) if on_cpu else (_GPU_ROWS, _GPU_COLUMNS)
        pool = ThreadPoolExecutor(cores) if on_cpu and cores > 1 else None
        done = 0
        with threads(1) if pool else nullcontext(), pool or nullcontext():
            for rows in _cut(self._left, at_once):
                queries, tiles = self._queries(rows), _cut(self._right, wide)
                if self._is_one:  # the square on the diagonal, and what is right of it
                    tiles = [rows, *_cut(range(rows.stop, self._right.stop), wide)]
                list((pool.map if pool else map)(partial(self._enter, rows, queries), tiles))
                done += sum(len(rows) * (len(rows) - 1) // 2 if t == rows else len(rows) * len(t) for t in tiles)
                progress(done)

    def _enter(self, rows: range, queries: torch.Tensor, tile: range) -> None:
        population, count = self._population, len(rows)
        at, there = rows.start - self._left.start, tile.start - self._right.start
        norm2 = self._left_norm2[at : at + count, None]
        products = int8_product(queries, population.pixels.span(tile))[:, : len(tile)]
        is_square = self._is_one and tile == rows
        for half, distance2 in enumerate(products.split(count)):
            distance2.mul_(-2).add_(self._right_norm2[there : there + len(tile)]).add_(norm2)
            if is_square and half == 0:
                distance2.fill_diagonal_(FAR)
            bins, span = bins_of(distance2)
            self._near_left.add(at, distance2, bins, span, 0)
            if not is_square:  # else each pair is in it twice, once for either image
                self._near_right.add(there, distance2, bins, span, 1)

    def _queries(self, rows: range) -> torch.Tensor:
        """Pixels of these images, with flips also those of their mirror images; int8, padded like tiles."""
        population = self._population
        queries = population.pixels.span(rows)[: len(rows)]
        if not population.flips:
            return queries
        mirrored = population.flip(queries[:, : population.dim])
        return torch.cat([queries, F.pad(mirrored, (0, queries.shape[1] - population.dim))])


def _norms(population: Population, images: range) -> torch.Tensor:
    """Squared norms, int32 [n]: from products, which take less time than squares."""
    parts = []
    for part in _cut(images, _NORMS):
        pixels = population.pixels.span(part)
        parts.append(int8_product(pixels[: len(part)], pixels)[:, : len(part)].diagonal())
    return torch.cat(parts)


def _cut(images: range, size: int) -> list[range]:
    return [range(start, min(start + size, images.stop)) for start in range(images.start, images.stop, size)]
