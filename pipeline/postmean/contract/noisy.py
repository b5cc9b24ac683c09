"""Noisy images z = x + sigma eps of tuples. Only this file computes them, so that all callers get the same bits.

Generator and trainer each make z from the tuple id, and a posterior mean is valid only for the z it was computed for.
"""

import numpy as np

from postmean.contract.image_store import ImageStore, to_pixels, to_unit
from postmean.contract.tuples import TupleBlock, TupleSource


def noisy(source: TupleSource, store: ImageStore, block: TupleBlock) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, eps, z) of the tuples of a block, float32 [n, C, H, W] each.

    z is computed in float32, with one product and one sum per value.

    Args:
        block: tuples of `source`; their sigma may differ from the source's.
        store: the images that the block's entries refer to.
    """
    x = to_unit(store.pixels(block.entry))
    eps = source.eps(block.tuple_id, store.dim).reshape(x.shape)
    return x, eps, x + block.sigma[:, None, None, None] * eps


def noisy_pixels(z: np.ndarray, sigma: float) -> np.ndarray:
    """z as uint8 pixels for people: scaled by 1 + 2 sigma, else most of it would be clipped from sigma 1 on.

    Args:
        z: float [..., C, H, W] of one sigma.
    """
    return to_pixels(z / (1 + 2 * sigma))
