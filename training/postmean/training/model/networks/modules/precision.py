"""The numbers that our networks compute with: those of x, or of autocast.

The embedding of time and class stays float32, as in the authors' code; weights are float32 and are rounded where they
are used. Autocast itself would round the embedding too.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_precision(x: torch.Tensor) -> Iterator[torch.Tensor]:
    """x in the numbers to compute with; within the block, nothing is rounded by autocast."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        yield x.to(dtype)


def precise(x: torch.Tensor) -> torch.Tensor:
    """x as float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
