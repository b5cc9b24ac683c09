"""Sampled images on disk: a folder of PNGs 000000.png, 000001.png, ..., and a grid of the first ones."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from postmean.base.errors import ConfigError, DataError
from postmean.base.extras import needs
from postmean.base.files import write_file
from postmean.base.paths import local_path

with needs("train"):
    from PIL import Image

GRID = "grid.png"
_SIDE = 64
"""Side in a grid that smaller images are enlarged to, or nearly."""
_GAP = 128
"""Grey between the images of a grid: it is seen beside black and white ones."""
RECORD = "samples.json"
"""File that says how the images of the folder were drawn."""


def begin_folder(folder: Path) -> None:
    """Make the folder and remove the samples of an earlier call.

    Raises:
        DataError: it holds PNGs that no earlier call wrote.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = list(folder.glob("*.png"))
    if pictures and not (folder / RECORD).is_file():
        raise DataError(f"{folder}: holds {len(pictures)} PNGs of something else: pass another --out")
    for path in pictures:
        if path.name == GRID or re.fullmatch(r"\d{6,}\.png", path.name):
            path.unlink()


def write_images(folder: Path, batch: np.ndarray, numbers: Sequence[int]) -> None:
    """Write uint8 [B, C, H, W] as PNGs of these numbers."""
    for number, image in zip(numbers, batch, strict=True):
        to_image(image).save(folder / f"{number:06d}.png")


def to_image(pixels: np.ndarray) -> Image.Image:
    """uint8 [C, H, W] as a grey (C = 1) or RGB (C = 3) image."""
    if pixels.shape[0] not in (1, 3):
        raise ConfigError(f"images of {pixels.shape[0]} channels cannot be written as PNG: 1 or 3 can")
    return Image.fromarray(pixels[0] if pixels.shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def grid_of(pixels: np.ndarray, columns: int) -> np.ndarray:
    """uint8 [n, C, H, W] as one image [C, H', W'], row by row, with gaps between; small images are enlarged."""
    n, c, h, w = pixels.shape
    scale = max(1, _SIDE // h)
    gap, rows = max(2, h * scale // 16), -(-n // columns)
    large = pixels.repeat(scale, 2).repeat(scale, 3)
    high, wide = h * scale + gap, w * scale + gap
    sheet = np.full((c, rows * high + gap, columns * wide + gap), _GAP, np.uint8)
    for number, image in enumerate(large):
        top, left = gap + number // columns * high, gap + number % columns * wide
        sheet[:, top : top + h * scale, left : left + w * scale] = image
    return sheet


def write_grid(path: Path, pixels: np.ndarray, columns: int) -> np.ndarray:
    """Write `grid_of` the images as a PNG, whole or not at all; also returns it."""
    grid, buffer = grid_of(pixels, columns), io.BytesIO()
    to_image(grid).save(buffer, "PNG", optimize=True)
    write_file(path, buffer.getvalue())
    return grid


class ImageFolder:
    """The PNGs of a folder except grid.png, by name, as uint8 [C, H, W]; all have one size.

    Raises:
        DataError: the folder has none, one cannot be read, or one has another size than the first.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(p for p in local_path(folder).glob("*.png") if p.name != GRID)
        if not self._paths:
            raise DataError(
                f"{folder}: no PNG images there: make some with `postmean sample CHECKPOINT --out {folder}`"
            )
        first, *others = self._paths
        expected = _size(first)
        for path in others:  # the headers alone, before minutes of work
            if _size(path) != expected:
                raise DataError(
                    f"{path}: {_text(_size(path))} pixels, {first.name} has {_text(expected)}: "
                    "scores need images of one size: take it out, or sample again"
                )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> np.ndarray:
        with _readable(self._paths[index]), Image.open(self._paths[index]) as image:
            pixels = np.asarray(image.convert("L" if image.mode == "L" else "RGB"))
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _size(path: Path) -> tuple[int, int]:
    """Width and height, from the header."""
    with _readable(path), Image.open(path) as image:
        return image.size


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises on damage
        raise DataError(f"{path}: {error}: sample again") from error
