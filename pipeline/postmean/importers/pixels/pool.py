"""Decoding in worker processes: batches return in the order of the items, with a bounded number in flight."""

import math
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Any

from postmean.base.errors import DataError
from postmean.importers.layouts.layout import Item
from postmean.importers.pixels.decode import Batch, PixelRule, Shape, decode_batch

BATCH_BYTES = 2**22
"""A batch ends when its items reach this many bytes, each counted decoded or encoded, whichever is larger."""


def decode_all(items: Iterable[Item], rule: PixelRule, expected: Shape, workers: int) -> Generator[Batch]:
    """Decode every item; one worker means in this process.

    Raises:
        DataError: see `decode`; or a worker died.
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
            with _interrupts(lambda number, _: held.append(number)):  # Ctrl-C must not lose a half-started worker
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
    """A fork server for the workers: it imports the decoder once and has no threads, which this process may have."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([decode_batch.__module__])
    with _interrupts(signal.SIG_IGN):  # workers inherit this: only this process handles Ctrl-C
        forkserver.ensure_running()
    return context


@contextmanager
def _interrupts(handler: Any) -> Iterator[None]:
    """Set the handler of Ctrl-C for a block. Does nothing in other threads: only the main thread handles signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent() -> None:
    """Exit this worker when its parent dies: it would otherwise wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
