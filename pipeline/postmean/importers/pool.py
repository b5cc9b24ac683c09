"""Decoding in processes: batches come back in the order of the items, with a bounded number in flight."""

import math
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Any

from postmean.base.errors import DataError
from postmean.importers.decode import Batch, PixelRule, Shape, decode_batch
from postmean.importers.importer import Item

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
    pool = ProcessPoolExecutor(workers, _fork_server(), initializer=_end_with_parent)
    flying: deque[Future[Batch]] = deque()
    held: list[int] = []
    try:
        for batch in batches:
            with _interrupts(lambda number, _: held.append(number)):  # a worker half started would be lost
                flying.append(pool.submit(decode_batch, batch, rule, expected))
            if held:
                raise KeyboardInterrupt
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


def _fork_server() -> BaseContext:
    """Forks workers from a process that has imported the decoder once, and has no threads as this one may have."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([decode_batch.__module__])
    with _interrupts(signal.SIG_IGN):  # inherited by the workers: Ctrl-C is for this process to handle
        forkserver.ensure_running()
    return context


@contextmanager
def _interrupts(handler: Any) -> Iterator[None]:
    """Handle Ctrl-C so meanwhile. It is Python's main thread that handles it; another one has nothing to do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent() -> None:
    """Not to wait for work for ever after the parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
