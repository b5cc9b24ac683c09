"""The population of a posterior: the entries that E[x | z, sigma] runs over, as tiles of integer pixels.

All code in `neighbours` and `estimators` that multiplies pixels uses integer units: s = pixel - 128, an int8, so that
x = (s + 0.5) / 127.5, and a distance in x is the distance in s divided by 127.5. Products of int8 are exact in int32.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from postmean.base.errors import ConfigError
from postmean.contract.image_store import ImageStore

SCALE = 127.5
"""Pixel steps per unit of x: s = 127.5 x - 0.5."""

_CHUNK = 1 << 20  # pixels converted at a time to a type wider than a byte
_TILE_BYTES = 16 << 20  # of int8 pixels: enough for the matrix product's full rate, little compared with any memory


@dataclass(frozen=True)
class Population:
    """Entries of a data set: all, or those of one class; with flips, the flipped images too.

    Members are numbered 0 .. len - 1; `entry` maps them to entries of the data set.

    Args:
        label: the class of a conditional posterior; None for the whole data set.
        device: where the pixels are multiplied. A GPU gets a copy of the population's images once, D bytes each.
    """

    store: ImageStore
    flips: bool
    label: int | None = None
    device: str = "cpu"

    @cached_property
    def images(self) -> np.ndarray:
        """Images of the store that belong to the population, int64, ascending."""
        if self.label is None:
            return np.arange(len(self.store))
        if self.store.labels is None:
            raise ConfigError(f"{self.store.path}: a conditional posterior needs labels, this store has none")
        return np.flatnonzero(self.store.labels == self.label)

    def __len__(self) -> int:
        return len(self.images) * (2 if self.flips else 1)

    @property
    def represented(self) -> float:
        """Number of members that decisions assume: those at hand, or more if these are a sample."""
        return len(self)

    def at_hand(self, total: float) -> float:
        """Convert a sum (such as a count) over represented members to one over members at hand: here the same."""
        return total

    def at_hand_with_source(self, count: float) -> float:
        """Like `at_hand`, for a count of members that includes the source of z: here the same."""
        return count

    @property
    def dim(self) -> int:
        """D"""
        return self.store.dim

    @cached_property
    def entry(self) -> np.ndarray:
        """Entry of each member, int64 [M]."""
        return np.concatenate([self.images, self.images + len(self.store)]) if self.flips else self.images

    def member(self, entry: np.ndarray) -> np.ndarray:
        """Member of each entry, int64; entries must belong to the population."""
        flipped, image = np.divmod(entry, len(self.store))
        return np.searchsorted(self.images, image) + flipped * len(self.images)

    @property
    def tile_rows(self) -> int:
        """Members per tile."""
        return max(256, _TILE_BYTES // self.dim)

    def tiles(self) -> list[tuple[int, int]]:
        """Ranges (start, stop) of members to multiply at a time, in order; none has both unflipped and flipped ones."""
        bounds = []
        for half in range(2 if self.flips else 1):
            offset = half * len(self.images)
            for start in range(0, len(self.images), self.tile_rows):
                bounds.append((offset + start, offset + min(start + self.tile_rows, len(self.images))))
        return bounds

    def tile(self, start: int, stop: int) -> torch.Tensor:
        """Integer pixels of one range of `tiles`, int8 [stop - start, D] on the device."""
        flipped, first = divmod(start, len(self.images))
        rows = self._unflipped(first, first + stop - start)
        return self._flip(rows) if flipped else rows

    def centred_tiles(self, mean: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
        """For each of `tiles`: start, stop, and integer pixels minus `mean`, float32 [stop - start, D] on the device.

        The next tile overwrites the pixels. Their buffer is reused because large blocks, allocated and freed between
        small ones that stay, would leave gigabytes of holes in the heap for 50 000 images.
        """
        buffer = torch.empty((self.tile_rows, self.dim), dtype=torch.float32, device=self.device)
        for start, stop in self.tiles():
            yield start, stop, buffer[: stop - start].copy_(self.tile(start, stop)).sub_(mean)

    def rows(self, member: np.ndarray) -> torch.Tensor:
        """Integer pixels of these members, int8 [n, D] on the device."""
        flipped, row = np.divmod(member, len(self.images))
        index = torch.from_numpy(row).to(self.device)
        rows = _signed(self._pixels.index_select(0, index if self._rows_are_images else self._image_of_row[index]))
        if flipped.any():
            mirrored = torch.from_numpy(flipped.astype(bool)).to(self.device)
            rows[mirrored] = self._flip(rows[mirrored])
        return rows

    def x(self, member: np.ndarray) -> torch.Tensor:
        """These members in units of x, float32 [n, D] on the device."""
        return from_integer_units(self.rows(member).to(torch.float32))

    def _unflipped(self, first: int, last: int) -> torch.Tensor:
        """Integer pixels of images first .. last - 1 of the population."""
        if self._rows_are_images:
            return _signed(self._pixels[first:last])
        return _signed(self._pixels.index_select(0, self._image_of_row[first:last]))

    def _flip(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.view(-1, *self.store.image_shape).flip(-1).reshape(len(rows), self.dim)

    @cached_property
    def norm2(self) -> torch.Tensor:
        """Squared norms sum s^2 of the members, exact, float64 [M] on the device."""
        norm2 = torch.empty(len(self.images), dtype=torch.float64, device=self.device)
        rows = max(1, _CHUNK // self.dim)
        for start in range(0, len(norm2), rows):
            stop = min(start + rows, len(norm2))
            # D 128^2 < 2^31 up to D = 131 071
            norm2[start:stop] = self._unflipped(start, stop).to(torch.int32).square_().sum(1, dtype=torch.int64)
        return torch.cat([norm2, norm2]) if self.flips else norm2

    @cached_property
    def mean(self) -> torch.Tensor:
        """Mean image in [-1, 1], float64 [D] on the device."""
        total = torch.zeros(self.dim, dtype=torch.int64, device=self.device)
        rows = max(1, _CHUNK // self.dim)
        for start in range(0, len(self.images), rows):
            total += self._unflipped(start, min(start + rows, len(self.images))).sum(0, dtype=torch.int64)
        if self.flips:
            total = total + self._flip(total[None])[0]
        return from_integer_units(total.to(torch.float64) / len(self))

    @property
    def mean_s(self) -> torch.Tensor:
        """Mean image in integer units, float64 [D] on the device."""
        return to_integer_units(self.mean)

    @property
    def _rows_are_images(self) -> bool:
        """Whether row r of `_pixels` is image r of the population; else it is image r of the store."""
        return self.label is None or self.device != "cpu"

    @cached_property
    def _pixels(self) -> torch.Tensor:
        """uint8 pixels, [rows, D]: on a CPU the store's memory map; else a copy of the population's images."""
        images = self.store.images.reshape(-1, self.dim)
        if self.device == "cpu":
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                return torch.from_numpy(images)
        resident = torch.empty((len(self.images), self.dim), dtype=torch.uint8, device=self.device)
        for start in range(0, len(resident), self.tile_rows):
            part = images[self.images[start : start + self.tile_rows]]
            resident[start : start + len(part)] = torch.from_numpy(part).to(self.device)
        return resident

    @cached_property
    def _image_of_row(self) -> torch.Tensor:
        return torch.from_numpy(self.images).to(self.device)


def _signed(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels to int8 s = pixel - 128, by flipping the top bit."""
    return torch.bitwise_xor(pixels, 128).view(torch.int8)


def to_integer_units(x: torch.Tensor) -> torch.Tensor:
    """An image, z or mean in units of x to units of s."""
    return x * SCALE - 0.5


def from_integer_units(s: torch.Tensor) -> torch.Tensor:
    """An image or mean in units of s to units of x in [-1, 1]."""
    return (s + 0.5) / SCALE
