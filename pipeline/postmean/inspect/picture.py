"""A sheet of images with captions, as a PNG."""

import io
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from postmean.base.errors import ConfigError
from postmean.base.extras import needs
from postmean.base.files import write_file
from postmean.base.paths import local_path

with needs("generate"):
    from PIL import Image, ImageDraw, ImageFont

_SIDE, _GAP, _LINE, _COLUMNS = 112, 8, 13, 8
"""Least side of an image, space around it, height of a line of its caption, images in a row."""


class Tile(NamedTuple):
    """An image and the lines below it."""

    pixels: np.ndarray
    """uint8 [C, H, W]"""
    caption: list[str]


def drawable(text: str) -> str:
    """Text in the letters of Pillow's font: without accents, a question mark for what is no Latin letter."""
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return plain.encode("ascii", "replace").decode()


def draw(tiles: list[Tile], path: Path) -> None:
    """Write a sheet of images of one size, row by row; small ones are enlarged by a whole number."""
    channels, height, width = tiles[0].pixels.shape
    if channels not in (1, 3):
        raise ConfigError(f"--picture: images of {channels} channels: 1 or 3 can be drawn")
    scale = -(-_SIDE // max(height, width))
    lines = max(len(tile.caption) for tile in tiles)
    across, down = width * scale + _GAP, height * scale + _LINE * lines + _GAP
    columns = min(_COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * across + _GAP, -(-len(tiles) // columns) * down + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, tile in enumerate(tiles):
        left, top = _GAP + number % columns * across, _GAP + number // columns * down
        pixels = np.broadcast_to(tile.pixels, (3, height, width)).transpose(1, 2, 0)
        sheet.paste(Image.fromarray(np.ascontiguousarray(pixels.repeat(scale, 0).repeat(scale, 1))), (left, top))
        for row, line in enumerate(tile.caption):
            text = drawable(line)
            while pen.textlength(text, font) > width * scale and len(text) > 2:
                text = text[:-3] + ".."
            pen.text((left, top + height * scale + row * _LINE), text, "black", font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_file(local_path(path), buffer.getvalue())
