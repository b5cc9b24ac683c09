"""The population of a posterior: the entries that E[x | z, sigma] runs over, and their integer pixels.

All code in `neighbours` and `estimators` that multiplies pixels uses integer units: s = pixel - 128, an int8, so that
x = (s + 0.5) / 127.5, and a distance in x is the distance in s divided by 127.5.

With flips, member n + i is the mirror image of member i. No product reads mirrored pixels: z.flip(s) = flip(z).s, so
tiles hold the n images alone, and mirrored queries stand for mirrored members.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from postmean.base.errors import ConfigError
from postmean.contract.image_store import ImageStore
from postmean.engine import pixels
from postmean.engine.self_test import check_products

SCALE = 127.5
"""Pixel steps per unit of x: s = 127.5 x - 0.5."""

_FEW_MEMBERS, _MANY_MEMBERS = 1 << 16, 1 << 18  # up to these, 1024 and 512 queries take at most 0.5 GB a matrix
_CPU_VALUES, _GPU_VALUES = 1 << 21, 1 << 27  # pixels in a wider type at a time: in a cache, or half a gigabyte


@dataclass(frozen=True)
class Population:
    """Entries of a data set: all, or those of one class; with flips, the flipped images too.

    Members are numbered 0 .. len - 1; `entry` maps them to entries of the data set.

    Args:
        label: the class of a conditional posterior; None for the whole data set.
        device: where the pixels are multiplied. A GPU gets a copy of the population's images.
        exact_products: multiply int8 pixels on a GPU too, for distances of images that are exact integers. Posteriors
            there take float16 pixels: one product of these is faster than the two that int8 needs (docs/gpu.md).
    """

    store: ImageStore
    flips: bool
    label: int | None = None
    device: str = "cpu"
    exact_products: bool = False

    @cached_property
    def images(self) -> np.ndarray:
        """Images of the store that belong to the population, int64, ascending."""
        if self.label is None:
            return np.arange(len(self.store))
        if self.store.labels is None:
            raise ConfigError(f"{self.store.where}: a conditional posterior needs labels, this store has none")
        return np.flatnonzero(self.store.labels == self.label)

    def __len__(self) -> int:
        return len(self.images) * self.halves

    @property
    def halves(self) -> int:
        """2 with flips, else 1: members per image."""
        return 2 if self.flips else 1

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

    @cached_property
    def pixels(self) -> pixels.Pixels:
        """Pixels of the images, loaded on first use."""
        images = self.store.images.reshape(-1, self.dim)
        members = None if self.label is None else self.images
        if self.device == "cpu":
            return pixels.on_cpu(images, members)
        check_products(self.device)
        dtype = torch.int8 if self.exact_products else torch.float16
        return pixels.on_gpu(images, members, self.device, dtype, self.workspace_bytes)

    @property
    def queries_at_a_time(self) -> int:
        """Queries that share a pass over the pixels. Results depend on it, so it does not follow the memory at hand."""
        return queries_per_pass(self.device, self.represented)

    @property
    def workspace_bytes(self) -> float:
        """Most bytes that a pass needs beside the pixels."""
        return workspace_bytes(len(self), len(self.images), self.dim, self.queries_at_a_time)

    @property
    def rows_at_a_time(self) -> int:
        """Rows of pixels to convert to a wider type at a time, at least 1."""
        return max(1, (_CPU_VALUES if self.device == "cpu" else _GPU_VALUES) // self.dim)

    def members_of(self, start: int, stop: int) -> list[slice]:
        """Members that images start .. stop - 1 stand for: themselves, and with flips their mirror images."""
        return [slice(half * len(self.images) + start, half * len(self.images) + stop) for half in range(self.halves)]

    def centred_tiles(self, mean: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Ranges of members start .. stop - 1, and their pixels minus `mean`, float32 [stop - start, D] on the device.

        The next range overwrites the pixels. Their buffer is reused because large blocks, allocated and freed between
        small ones that stay, would leave gigabytes of holes in the heap for 50 000 images.
        """
        rows_at_most = min(self.pixels.tile_rows, len(self.images))
        buffer = torch.empty((rows_at_most, self.dim), dtype=torch.float32, device=self.device)
        for start, stop, tile in self.pixels.tiles():
            rows = tile[: stop - start, : self.dim]
            for half, members in enumerate(self.members_of(start, stop)):
                part = self.flip(rows) if half else rows
                yield members.start, members.stop, buffer[: stop - start].copy_(part).sub_(mean)

    def rows(self, member: np.ndarray) -> torch.Tensor:
        """Integer pixels of these members, [n, D] on the device, in the type of the tiles."""
        flipped, row = np.divmod(member, len(self.images))
        rows = self.pixels.rows(row)
        if flipped.any():
            mirrored = torch.as_tensor(np.flatnonzero(flipped)).to(self.device)
            rows[mirrored] = self.flip(rows[mirrored])
        return rows

    def copy_bytes(self, member: np.ndarray, out: torch.Tensor) -> None:
        """Copy the pixels of these members as they are in the store, uint8 [n, D], on a CPU."""
        flipped, row = np.divmod(member, len(self.images))
        self.pixels.copy_bytes(row, out)
        if flipped.any():
            mirrored = torch.as_tensor(np.flatnonzero(flipped))
            out[mirrored] = self.flip(out[mirrored])

    def x(self, member: np.ndarray) -> torch.Tensor:
        """These members in units of x, float32 [n, D] on the device."""
        return from_integer_units(self.rows(member).to(torch.float32))

    def flip(self, rows: torch.Tensor) -> torch.Tensor:
        """Mirror images, [n, D] like `rows`."""
        return rows.reshape(-1, *self.store.image_shape).flip(-1).reshape(len(rows), self.dim)

    @cached_property
    def norm2(self) -> torch.Tensor:
        """Squared norms sum s^2 of the members, exact, float64 [M] on the device."""
        norm2 = torch.empty(len(self.images), dtype=torch.float64, device=self.device)
        for start, stop, rows in self._chunks():
            # D 128^2 < 2^31 up to D = 131 071
            norm2[start:stop] = rows.to(torch.int32).square_().sum(1, dtype=torch.int64)
        return torch.cat([norm2] * self.halves)

    @cached_property
    def mean(self) -> torch.Tensor:
        """Mean image in [-1, 1], float64 [D] on the device."""
        total = torch.zeros(self.dim, dtype=torch.int64, device=self.device)
        for _, _, rows in self._chunks():
            total += rows.to(torch.int32).sum(0, dtype=torch.int64)
        if self.flips:
            total = total + self.flip(total[None])[0]
        return from_integer_units(total.to(torch.float64) / len(self))

    @property
    def mean_s(self) -> torch.Tensor:
        """Mean image in integer units, float64 [D] on the device."""
        return to_integer_units(self.mean)

    @cached_property
    def deviation2(self) -> torch.Tensor:
        """Squared distances |s - mean|^2 of the members from the mean image, float32 [M] on the device."""
        mean = self.mean_s.to(torch.float32)
        parts = [rows.to(torch.float32).sub_(mean).square_().sum(1) for _, _, rows in self._chunks()]
        return torch.cat(parts * self.halves)  # with flips the mean image is its own mirror image

    @cached_property
    def spread(self) -> torch.Tensor:
        """Distance of two members that can both matter, in integer units, float64 [] on the device, at least 2.

        Twice the root mean square distance from the mean image is what occurs; the diameter of the pixel cube would be
        far too loose.
        """
        return 2 * (self.norm2.mean() - self.mean_s.square().sum()).clamp(min=1.0).sqrt()

    def _chunks(self) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Ranges of images and their pixels, in pieces that may be converted to a wider type."""
        for first, last, tile in self.pixels.tiles():
            for start in range(first, last, self.rows_at_a_time):
                stop = min(start + self.rows_at_a_time, last)
                yield start, stop, tile[start - first : stop - first, : self.dim]


def queries_per_pass(device: str, members: float) -> int:
    """Queries that share a pass over the pixels of so many members."""
    if device != "cpu":
        return 512
    return 1024 if members <= _FEW_MEMBERS else 512 if members <= _MANY_MEMBERS else 256


def workspace_bytes(members: float, images: float, dim: int, queries: int) -> float:
    """Most bytes that a pass on a GPU needs beside the pixels.

    A float32 log-weight, a float32 and a byte of temporaries for each member and query; 520 bytes for each member's
    coordinates (`directions`), twice while these are made; tiles and products.
    """
    tile = min(images, pixels.gpu_tile_rows(dim))
    return members * (9 * queries + 1040) + 8 * tile * dim + (1 << 30)


def to_integer_units(x: torch.Tensor) -> torch.Tensor:
    """An image, z or mean in units of x to units of s."""
    return x * SCALE - 0.5


def from_integer_units(s: torch.Tensor) -> torch.Tensor:
    """An image or mean in units of s to units of x in [-1, 1]."""
    return (s + 0.5) / SCALE
