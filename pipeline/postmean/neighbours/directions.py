"""Leading orthonormal directions of a population, and the coordinates of every member along them.

Principal components by block power iteration on a fixed sample. The second certificate (`candidates`) is valid for any
orthonormal directions; leading ones make it sharp.
"""

from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.population import Population

_SAMPLE = 4096  # members used to find the directions
_OVERSAMPLING = 16
_ITERATIONS = 3
_ROWS = 1024  # members in float64 at a time


@dataclass(frozen=True)
class Directions:
    """m orthonormal directions and the members' coordinates, in integer units."""

    basis: torch.Tensor
    """float32 [D, m], orthonormal columns"""
    mean: torch.Tensor
    """float32 [D], whole numbers, subtracted first: small coordinates keep float32 precise"""
    coordinates: torch.Tensor
    """float32 [M, m], (s_j - mean) @ basis, summed in float64"""
    half_norm2: torch.Tensor
    """float32 [M], half the squared norm of each row of coordinates"""

    @classmethod
    def of(cls, population: Population, count: int) -> "Directions":
        """The `count` leading directions, or as many as there are dimensions."""
        dim = population.dim
        count = min(count, dim)
        sample = np.random.Generator(np.random.Philox(key=0)).permutation(len(population))[:_SAMPLE]
        rows = population.rows(np.sort(sample)).to(torch.float32)
        mean = rows.mean(0).round()
        rows -= mean
        generator = torch.Generator().manual_seed(0)
        basis = torch.randn(dim, min(dim, count + _OVERSAMPLING), generator=generator).to(rows.device)
        for _ in range(_ITERATIONS):
            basis = torch.linalg.qr(rows.t() @ (rows @ basis)).Q
        # rotate onto the principal axes inside the block, strongest first
        _, vectors = torch.linalg.eigh((rows @ basis).t() @ (rows @ basis))
        basis = torch.linalg.qr(basis @ vectors.flip(1)[:, :count]).Q
        coordinates = torch.empty((len(population), count), device=rows.device)
        basis64 = basis.to(torch.float64)
        for start, stop, pixels in population.centred_tiles(mean):
            for part, out in zip(pixels.split(_ROWS), coordinates[start:stop].split(_ROWS), strict=True):
                out.copy_(part.to(torch.float64) @ basis64)
        return cls(basis, mean, coordinates, coordinates.square().sum(1) / 2)
