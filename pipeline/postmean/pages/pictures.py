"""Images as small PNG files."""

import io

import numpy as np

from postmean.base.extras import needs

with needs("report"):
    from PIL import Image

_SIDE = 256
"""A larger image is made smaller."""


def png_of(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 [C, H, W] with 1 or 3 channels; of other numbers of channels, the first alone."""
    shown = pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]
    image = Image.fromarray(np.ascontiguousarray(shown))
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
