"""Threads and memory of a process that estimates.

The C library returns blocks above 32 MB to the system when they are freed and takes fresh pages for the next: at the
rate that log-weights come and go, these page faults cost a quarter of the time. Peak memory is the same.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_large_blocks() -> bool:
    """Make freed blocks of any size stay for reuse; False where the C library is not glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def prepare_process(threads: int) -> None:
    """Make this process one that estimates: CPU threads of torch, which a FAISS search takes over, memory that stays.

    Sums depend on the number of threads in the last bit.
    """
    import torch

    keep_large_blocks()
    torch.set_num_threads(threads)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Like `prepare_process`, for a block: afterwards torch has the threads that it had before."""
    import torch

    before = torch.get_num_threads()
    prepare_process(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
