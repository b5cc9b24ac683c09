"""Files read by several threads, a little ahead of what is asked for, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

_FILES = 16
"""Files that a thread reads as one piece of work: a handover costs as much as some files."""


def read_ahead(read: Callable[[str], bytes], names: Iterable[str], threads: int) -> Iterator[bytes]:
    """Contents of files in the order of their names; an error of one is raised at its turn."""
    left = iter(names)
    pool = ThreadPoolExecutor(threads, "read")
    flying: deque[Future[list[bytes | Exception]]] = deque()
    try:
        while True:
            while len(flying) <= threads and (some := list(islice(left, _FILES))):
                flying.append(pool.submit(_read, read, some))
            if not flying:
                return
            for data in flying.popleft().result():
                if isinstance(data, Exception):
                    raise data
                yield data
    finally:
        # not joined: a generator that is dropped ends when garbage is collected, perhaps while a thread starts, which
        # holds the lock that a join needs
        pool.shutdown(wait=False, cancel_futures=True)


def _read(read: Callable[[str], bytes], names: list[str]) -> list[bytes | Exception]:
    """Contents of files up to the first that cannot be read, and its error."""
    found: list[bytes | Exception] = []
    for name in names:
        try:
            found.append(read(name))
        except Exception as error:
            return [*found, error]
    return found
