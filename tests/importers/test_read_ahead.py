"""Files read ahead: in order, errors at their turn, and no wait for threads when the reader is dropped."""

import threading

import pytest

from postmean.importers.files.read_ahead import read_ahead


def test_contents_are_in_order_and_an_error_comes_at_its_turn() -> None:
    def read(name: str) -> bytes:
        if name == "70":
            raise OSError(name)
        return name.encode()

    contents = read_ahead(read, map(str, range(100)), 3)
    assert [next(contents) for _ in range(70)] == [str(number).encode() for number in range(70)]
    with pytest.raises(OSError, match="70"):
        next(contents)


def test_a_dropped_reader_waits_for_no_thread() -> None:
    """Garbage is collected at any moment, also while a thread starts, which holds the lock that a join needs."""
    blocked = threading.Event()

    def read(name: str) -> bytes:
        if int(name) >= 16:  # a later piece of work
            blocked.wait(60)
        return name.encode()

    contents = read_ahead(read, map(str, range(100)), 2)
    next(contents)
    dropped = threading.Thread(target=contents.close, daemon=True)
    dropped.start()
    dropped.join(30)
    is_waiting = dropped.is_alive()
    blocked.set()
    assert not is_waiting
