"""Decoding in processes: batches come back in the order of the items, with a bounded number in flight."""

import math
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from pipeline.contract.errors import DataError
from pipeline.importers.decode import Batch, PixelRule, Shape, decode_batch
from pipeline.importers.importer import Item

BATCH_BYTES = 2**22
"""A batch ends at so many decoded or encoded bytes."""


def decode_all(items: Iterable[Item], rule: PixelRule, expected: Shape, workers: int) -> Iterator[Batch]:
    """Decode every item; with one worker in this process.

    Raises:
        DataError: see `decode_batch`; or a worker died.
    """
    batches = _batches(items, math.prod(expected))
    if workers == 1:
        for batch in batches:
            yield decode_batch(batch, rule, expected)
        return
    # forked from a clean server: this process may have threads
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(workers, context, initializer=_leave_interrupts_to_parent)
    flying: deque[Future[Batch]] = deque()
    try:
        for batch in batches:
            flying.append(pool.submit(decode_batch, batch, rule, expected))
            if len(flying) > workers + 2:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
    except BrokenProcessPool as error:
        raise DataError("a decoding process was killed, perhaps for lack of memory: pass --workers 1") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(items: Iterable[Item], decoded_bytes: int) -> Iterator[list[Item]]:
    batch: list[Item] = []
    size = 0
    for item in items:
        batch.append(item)
        size += max(decoded_bytes, len(item.payload))
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
