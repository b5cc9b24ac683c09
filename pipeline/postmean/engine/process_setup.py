"""Threads and memory of a process that runs estimators.

By default the C library returns freed blocks above 32 MB to the system and takes fresh pages for the next block.
Blocks of log-weights come and go so often that these page faults cost a quarter of the time. Peak memory is the same
with and without.

At small sigma most weights of a softmax are denormal numbers, below 1e-38, which a processor takes a hundred times
longer for. They are flushed to 0: no mean changes.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_large_blocks() -> bool:
    """Keep freed blocks of any size for reuse; False if the C library is not glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def prepare_process(threads: int) -> None:
    """Prepare this process for estimators: set torch's CPU threads, which FAISS searches adopt, and keep freed memory.

    The last bit of sums depends on the number of threads.
    """
    import torch

    keep_large_blocks()
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    # some containers switch it on: 11 bits are too few for distances
    torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Call `prepare_process` for a block, then restore threads and denormal numbers; freed memory is still kept."""
    import torch

    before, flushed = torch.get_num_threads(), _flushes_denormal()
    prepare_process(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(flushed)


def _flushes_denormal() -> bool:
    import torch

    return float(torch.tensor([1e-310], dtype=torch.float64) * 1.0) == 0.0
