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


@dataclass(frozen=True)
class Directions:
    """m orthonormal directions and the members' coordinates, in integer units."""

    basis: torch.Tensor
    """float32 [D, m], orthonormal columns"""
    mean: torch.Tensor
    """float32 [D], subtracted first: small coordinates keep float32 precise"""
    coordinates: torch.Tensor
    """float32 [M, m], (s_j - mean) @ basis"""
    half_norm2: torch.Tensor
    """float32 [M], half the squared norm of each row of coordinates"""

    @classmethod
    def of(cls, population: Population, count: int) -> "Directions":
        """The `count` leading directions, or as many as there are dimensions."""
        dim = population.dim
        count = min(count, dim)
        sample = np.random.Generator(np.random.Philox(key=0)).permutation(len(population))[:_SAMPLE]
        rows = population.rows(np.sort(sample)).to(torch.float32)
        mean = rows.mean(0)
        rows -= mean
        generator = torch.Generator().manual_seed(0)
        basis = torch.randn(dim, min(dim, count + _OVERSAMPLING), generator=generator).to(rows.device)
        for _ in range(_ITERATIONS):
            basis = torch.linalg.qr(rows.t() @ (rows @ basis)).Q
        # rotate onto the principal axes inside the block, strongest first
        _, vectors = torch.linalg.eigh((rows @ basis).t() @ (rows @ basis))
        basis = torch.linalg.qr(basis @ vectors.flip(1)[:, :count]).Q
        coordinates = torch.empty((len(population), count), device=rows.device)
        for start, stop, pixels in population.centred_tiles(mean):
            torch.mm(pixels, basis, out=coordinates[start:stop])
        return cls(basis, mean, coordinates, coordinates.square().sum(1) / 2)
