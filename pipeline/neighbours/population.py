"""The population of a posterior: the entries that E[x | z, sigma] runs over, as tiles of integer pixels.

Integer units, used by everything in `neighbours` and `estimators` that multiplies pixels: s = pixel - 128, an int8, so
that x = (s + 0.5) / 127.5 and a distance in x is one in s divided by 127.5. Products of int8 are exact in int32.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from pipeline.contract.errors import ConfigError
from pipeline.contract.image_store import ImageStore

SCALE = 127.5
"""Pixel steps per unit of x: s = 127.5 x - 0.5."""

_TILE_BYTES = 16 << 20  # of int8 pixels: large enough for the matrix product's full rate, small against any memory


@dataclass(frozen=True)
class Population:
    """Entries of a data set: all of them, or those of one class; with flips the flipped images too.

    Members are numbered 0 .. len - 1; `entry` maps them to entries of the data set.

    Args:
        label: the class of a conditional posterior, None for the whole data set.
        device: where the pixels are multiplied. On a GPU they are copied there once, N D bytes.
    """

    store: ImageStore
    flips: bool
    label: int | None = None
    device: str = "cpu"

    @cached_property
    def images(self) -> np.ndarray:
        """Images of the store that belong to the population, int64, rising."""
        if self.label is None:
            return np.arange(len(self.store))
        if self.store.labels is None:
            raise ConfigError(f"{self.store.path}: a conditional posterior needs labels, this store has none")
        return np.flatnonzero(self.store.labels == self.label)

    def __len__(self) -> int:
        return len(self.images) * (2 if self.flips else 1)

    @property
    def dim(self) -> int:
        """D"""
        return self.store.dim

    @cached_property
    def entry(self) -> np.ndarray:
        """Entry of each member, int64 [M]."""
        return np.concatenate([self.images, self.images + len(self.store)]) if self.flips else self.images

    def member(self, entry: np.ndarray) -> np.ndarray:
        """Member of each entry, which must belong to the population; int64."""
        flipped, image = np.divmod(entry, len(self.store))
        return np.searchsorted(self.images, image) + flipped * len(self.images)

    @property
    def tile_rows(self) -> int:
        """Members a tile."""
        return max(256, _TILE_BYTES // self.dim)

    def tiles(self) -> list[tuple[int, int]]:
        """Ranges of members that are multiplied at a time, in order; none crosses from unflipped to flipped."""
        bounds = []
        for half in range(2 if self.flips else 1):
            offset = half * len(self.images)
            for start in range(0, len(self.images), self.tile_rows):
                bounds.append((offset + start, offset + min(start + self.tile_rows, len(self.images))))
        return bounds

    def tile(self, start: int, stop: int) -> torch.Tensor:
        """Integer pixels of one range out of `tiles`, int8 [stop - start, D] on the device."""
        count = len(self.images)
        flipped, first = divmod(start, count)
        if self._resident is not None:
            rows = self._resident[first : first + stop - start]
        else:
            rows = _signed(self._pixel_rows(first, first + stop - start))
        if flipped:
            rows = rows.view(-1, *self.store.image_shape).flip(-1)
        return rows.reshape(stop - start, self.dim)

    def rows(self, member: np.ndarray) -> torch.Tensor:
        """Integer pixels of these members, int8 [n, D] on the device."""
        pixels = self.store.pixels(self.entry[member]).reshape(len(member), self.dim)
        return _signed(pixels).to(self.device)

    @cached_property
    def norm2(self) -> torch.Tensor:
        """Squared norms sum s^2 of the members, exact, float64 [M] on the device."""
        halves = []
        for start, stop in self.tiles():
            if start < len(self.images):
                # D 128^2 < 2^31 up to D = 131 071
                halves.append(self.tile(start, stop).to(torch.int32).square_().sum(1, dtype=torch.int64))
        norm2 = torch.cat(halves).to(torch.float64)
        return torch.cat([norm2, norm2]) if self.flips else norm2

    @cached_property
    def mean(self) -> torch.Tensor:
        """Mean image in [-1, 1], float64 [D] on the device."""
        total = torch.zeros(self.dim, dtype=torch.int64, device=self.device)
        for start, stop in self.tiles():
            total += self.tile(start, stop).sum(0, dtype=torch.int64)
        return (total.to(torch.float64) / len(self) + 0.5) / SCALE

    @cached_property
    def _resident(self) -> torch.Tensor | None:
        """All pixels on the accelerator; on the CPU the memory map itself is the replica."""
        if self.device == "cpu":
            return None
        resident = torch.empty((len(self.images), self.dim), dtype=torch.int8, device=self.device)
        for start in range(0, len(self.images), self.tile_rows):
            pixels = self._pixel_rows(start, min(start + self.tile_rows, len(self.images)))
            resident[start : start + len(pixels)] = _signed(pixels).to(self.device)
        return resident

    def _pixel_rows(self, first: int, stop: int) -> np.ndarray:
        images = self.store.images
        selected = images[first:stop] if self.label is None else images[self.images[first:stop]]
        return selected.reshape(-1, self.dim)


def _signed(pixels: np.ndarray) -> torch.Tensor:
    """uint8 pixels to int8 s = pixel - 128, by flipping the top bit."""
    return torch.from_numpy(np.bitwise_xor(pixels, np.uint8(128)).view(np.int8))


def to_integer_units(z: torch.Tensor) -> torch.Tensor:
    """z in units of x to units of s."""
    return z * SCALE - 0.5


def from_integer_units(mean: torch.Tensor) -> torch.Tensor:
    """A mean of s to one of x in [-1, 1]."""
    return (mean + 0.5) / SCALE
