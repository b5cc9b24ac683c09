"""Which axis of an array of pixels holds the channels."""

import numpy as np

from postmean.base.errors import DataError

_CHANNELS = (1, 3, 4)


def to_planes(pixels: np.ndarray, place: str) -> np.ndarray:
    """Images as [n, C, H, W], without a copy where that is possible.

    The channels are the first or the last axis of an image, whichever has 1, 3 or 4 entries.

    Args:
        pixels: uint8 [n, H, W], [n, H, W, C] or [n, C, H, W].
        place: names the array in errors.
    Raises:
        DataError: another type or number of axes, or both axes or none could hold the channels.
    """
    if pixels.dtype != np.uint8:
        raise DataError(f"{place}: {pixels.dtype} pixels, expected uint8 0..255: convert them, so that black is 0")
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.ndim != 4:
        raise DataError(f"{place}: shape {list(pixels.shape)}, expected [n, H, W], [n, H, W, C] or [n, C, H, W]")
    first, last = pixels.shape[1] in _CHANNELS, pixels.shape[3] in _CHANNELS
    if first == last:
        what = "either end of it may be" if first else "neither end of it is one of 1, 3 and 4"
        raise DataError(f"{place}: an image of shape {list(pixels.shape[1:])}: {what} the channels: reshape it")
    return pixels if first else pixels.transpose(0, 3, 1, 2)
