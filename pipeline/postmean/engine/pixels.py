"""Where the pixels of a population live, and the tiles of them that the matrix products read.

On a CPU the pixels are the store's memory map, or a signed copy of a small one, and tiles are int8. A GPU gets signed
pixels once, at load, with columns beside them that save passes (`norm_columns`), in rows and columns padded with 0 to
multiples, because matrix products of other sizes are several times slower. It keeps them in the type of its products
where memory allows, else as bytes, converted tile by tile, else in pinned host memory, from where each tile is copied
while the one before it is multiplied. All three multiply the same numbers, so they give the same results.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from postmean.base.errors import ConfigError
from postmean.engine import norm_columns

Place = Literal["device", "device as bytes", "host"]

_GPU_TILE_ROWS, _GPU_LEAST_ROWS, _GPU_TILE_VALUES = 40_960, 4096, 1 << 29

_CPU_TILE_ROWS, _CPU_TILE_BYTES = 3072, 64 << 20  # products of some thousand rows, a multiple of 64, are fastest
SIGNED_BYTES = 256 << 20
"""Up to this size each process keeps signed pixels on a CPU: to convert all pixels twice a pass takes 4 % of the time
for CIFAR-10."""

_ROW_MULTIPLE = 128
_COLUMN_MULTIPLES = {torch.int8: 16, torch.float16: 64}  # rows of float16 then begin at multiples of 128 bytes
_LOADED_VALUES = 1 << 26  # pixels at a time
RESERVE = 2 << 30
"""Bytes of a GPU left for CUDA's context, fragmentation and what else a process allocates."""


@dataclass(frozen=True)
class Pixels:
    """Integer pixels s = pixel - 128 of n images, one row each.

    Args:
        stored: uint8 pixels (a store's) or signed pixels, [at least n, at least D]; on a GPU, for products of float16,
            with `norm_columns` beside them.
        count: n. dim: D.
        device: where tiles are.
        dtype: of tiles: int8, or float16, which holds all pixels exactly.
        image_of_row: image of `stored` that each row is, int64 [n]; None: row r is image r.
    """

    stored: torch.Tensor
    count: int
    dim: int
    device: str
    dtype: torch.dtype
    image_of_row: torch.Tensor | None = None

    @property
    def columns(self) -> int:
        """Width of a tile: D on a CPU, more on a GPU (`padded_size`)."""
        return self.stored.shape[1]

    @property
    def tile_rows(self) -> int:
        """Images of a tile."""
        return gpu_tile_rows(self.dim) if self.device != "cpu" else cpu_tile_rows(self.dim)

    def tiles(self) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Range (start, stop) of the images of each tile, and the tile, [at least stop - start, columns].

        Nobody writes to a tile: it may be the pixels themselves.
        """
        starts = range(0, self.count, self.tile_rows)
        bounds = [(start, min(start + self.tile_rows, self.count)) for start in starts]
        if self.device != "cpu" and self.stored.device.type == "cpu":
            yield from self._streamed(bounds)
        else:
            for start, stop in bounds:
                yield start, stop, self._on_device(self._part(start, stop))

    def span(self, images: range) -> torch.Tensor:
        """The tile of these images, [at least as many, columns]; the first must be a multiple of 16 on a GPU."""
        return self._on_device(self._part(images.start, images.stop))

    def rows(self, row: np.ndarray) -> torch.Tensor:
        """Pixels of these images, [n, D] on the device."""
        return self._on_device(self.stored.index_select(0, self._index(row)))[:, : self.dim]

    def copy_bytes(self, row: np.ndarray, out: torch.Tensor) -> None:
        """Copy these images on a CPU as they are in the store, uint8 [n, D]."""
        if self.stored.dtype == torch.uint8:
            torch.index_select(self.stored, 0, self._index(row), out=out)
        else:
            torch.index_select(self.stored, 0, self._index(row), out=out.view(torch.int8))
            out.bitwise_xor_(128)

    def _index(self, row: np.ndarray) -> torch.Tensor:
        index = torch.from_numpy(row).to(self.stored.device)
        return index if self.image_of_row is None else self.image_of_row[index]

    def _streamed(self, bounds: list[tuple[int, int]]) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Tiles from pinned memory: each is copied while the one before it is multiplied."""
        copying, multiplying = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)
        parts = [self._part(start, stop) for start, stop in bounds]
        buffers = [torch.empty_like(parts[0], device=self.device) for _ in range(2)]
        for buffer in buffers:
            buffer.record_stream(copying)

        def copy(number: int) -> torch.Tensor:
            buffer = buffers[number % 2][: len(parts[number])]
            copying.wait_stream(multiplying)  # all that read this buffer before
            with torch.cuda.stream(copying):
                buffer.copy_(parts[number], non_blocking=True)
            return buffer

        coming = copy(0)
        for number, (start, stop) in enumerate(bounds):
            multiplying.wait_stream(copying)
            tile = coming.to(self.dtype)
            if number + 1 < len(bounds):
                coming = copy(number + 1)
            yield start, stop, tile

    def _part(self, start: int, stop: int) -> torch.Tensor:
        if self.image_of_row is not None:
            return self.stored.index_select(0, self.image_of_row[start:stop])
        return self.stored[start : stop if self.device == "cpu" else _padded(stop, _ROW_MULTIPLE)]

    def _on_device(self, stored: torch.Tensor) -> torch.Tensor:
        signed = _signed(stored) if stored.dtype == torch.uint8 else stored
        return signed.to(self.device).to(self.dtype)


def gpu_tile_rows(dim: int) -> int:
    """Images of a tile on a GPU.

    Of 64x64, 16 384 are enough for the full rate of a product with 512 queries (docs/gpu.md), but sums over smaller
    tiles move more bytes. A tile of larger images must not fill the memory.
    """
    return min(_GPU_TILE_ROWS, max(_GPU_LEAST_ROWS, _GPU_TILE_VALUES // dim // _ROW_MULTIPLE * _ROW_MULTIPLE))


def cpu_tile_rows(dim: int) -> int:
    """Images of a tile on a CPU."""
    return min(_CPU_TILE_ROWS, max(256, _CPU_TILE_BYTES // dim // 64 * 64))


def on_cpu(images: np.ndarray, members: np.ndarray | None) -> Pixels:
    """Pixels of a memory map, uint8 [N, D]; of the images `members` of it, if given."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        stored = torch.from_numpy(images)
    image_of_row = None if members is None else torch.from_numpy(members)
    if members is None and stored.numel() <= SIGNED_BYTES:
        stored = _signed(stored)
    count = len(images) if members is None else len(members)
    return Pixels(stored, count, images.shape[1], "cpu", torch.int8, image_of_row)


def on_gpu(images: np.ndarray, members: np.ndarray | None, device: str, dtype: torch.dtype, workspace: float) -> Pixels:
    """Copy pixels to a GPU, or to pinned host memory if they do not fit.

    Args:
        images, members: as for `on_cpu`.
        workspace: bytes that the products need on the GPU beside the pixels.
    Raises:
        ConfigError: not even the workspace fits.
    """
    count = len(images) if members is None else len(members)
    dim = images.shape[1]
    rows, columns = padded_size(count, dim, dtype)
    place = _place(rows * columns, min(rows, gpu_tile_rows(dim)) * columns, dtype.itemsize, device, workspace)
    # empty rather than zeros: a page of pinned memory is written once
    if place == "host":
        stored = torch.empty((rows, columns), dtype=torch.int8, pin_memory=True)
    else:
        stored = torch.empty((rows, columns), dtype=dtype if place == "device" else torch.int8, device=device)
    stored[count:] = 0
    stored[:, dim:] = 0
    at_a_time = max(1, _LOADED_VALUES // dim)
    for start in range(0, count, at_a_time):
        stop = min(start + at_a_time, count)
        part = np.ascontiguousarray(images[start:stop] if members is None else images[members[start:stop]])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            signed = _signed(torch.from_numpy(part).to(stored.device))
        stored[start:stop, :dim] = signed
        if dtype == torch.float16:
            norm_columns.fill(stored[start:stop], signed)
    return Pixels(stored, count, images.shape[1], device, dtype)


def fits_on_device(count: int, dim: int, device: str, workspace: float) -> bool:
    """Whether a GPU has room now for the float16 pixels of `count` images of `dim` values, beside the workspace."""
    rows, columns = padded_size(count, dim, torch.float16)
    return _place(rows * columns, min(rows, gpu_tile_rows(dim)) * columns, 2, device, workspace) == "device"


def padded_size(count: int, dim: int, dtype: torch.dtype) -> tuple[int, int]:
    """Rows and columns of `count` images of `dim` values on a GPU, for products of this type.

    float16 pixels have `norm_columns` beside them; int8 pixels, which are multiplied with each other, have none.
    """
    columns = dim + (norm_columns.EXTRA_COLUMNS if dtype == torch.float16 else 0)
    return _padded(count, _ROW_MULTIPLE), _padded(columns, _COLUMN_MULTIPLES[dtype])


def place_of(values: int, tile: int, itemsize: int, left: float) -> tuple[Place, int] | None:
    """Where to keep pixels, and the bytes that they and tiles take on the GPU; None if not even tiles fit.

    A tile is converted while the one before it is still held, and from the host two more are copied.

    Args:
        values: of all pixels. tile: of a tile. itemsize: bytes a value in products. left: bytes that are free for them.
    """
    places: list[tuple[Place, int]] = [
        ("device", values * itemsize),
        ("device as bytes", values + tile * 2 * itemsize),
        ("host", tile * (2 + 2 * itemsize)),
    ]
    return next((place for place in places if place[1] <= left), None)


def _place(values: int, tile: int, itemsize: int, device: str, workspace: float) -> Place:
    """Where to keep pixels, given the memory that is free now."""
    free, total = torch.cuda.mem_get_info(device)
    place = place_of(values, tile, itemsize, free - workspace - RESERVE)
    if place is None:
        needed = workspace + RESERVE + tile * (2 + 2 * itemsize)
        raise ConfigError(
            f"{torch.cuda.get_device_name(device)}: {free / 1e9:.1f} of {total / 1e9:.1f} GB are free, "
            f"the engine needs {needed / 1e9:.1f} GB even without the images: "
            "stop what else uses this GPU, or take one with more memory"
        )
    return place[0]


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _signed(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels to int8 s = pixel - 128, by flipping the top bit."""
    return torch.bitwise_xor(pixels, 128).view(torch.int8)
