"""Reading ahead: results in order, never further ahead than `depth`, and an end without hangs."""

import threading
from concurrent.futures import CancelledError
from queue import Empty

import pytest

from postmean.training.stream.ahead import Ahead


@pytest.mark.parametrize("depth", [1, 3])
def test_results_come_in_order_and_no_more_than_depth_are_made_ahead(depth: int) -> None:
    made: list[int] = []

    def make(place: int) -> int:
        made.append(place)
        return place

    ahead = Ahead(make, range(20), depth, "test")
    for place in range(20):
        assert len(made) <= place + depth
        assert ahead.take(60) == place
    assert made == list(range(20))


def test_results_of_two_threads_come_in_order_and_their_calls_at_the_same_time() -> None:
    both = threading.Barrier(2)

    def make(place: int) -> int:
        both.wait(60)  # each call waits for the other thread's
        return place

    ahead = Ahead(make, range(20), 2, "test", 2)
    assert [ahead.take(60) for _ in range(20)] == list(range(20))


def test_a_result_that_is_not_ready_in_time_is_had_later() -> None:
    goes_on = threading.Event()
    ahead = Ahead(lambda place: (goes_on.wait(60), place)[1], range(2), 1, "test")
    with pytest.raises(Empty):
        ahead.take(0.01)
    goes_on.set()
    assert [ahead.take(60), ahead.take(60)] == [0, 1]


def test_the_exception_of_a_call_is_raised_where_its_result_is_taken() -> None:
    ahead = Ahead(lambda place: 1 // (1 - place), range(3), 3, "test")
    assert ahead.take(60) == 1
    with pytest.raises(ZeroDivisionError):
        ahead.take(60)
    with pytest.raises(Empty):
        ahead.take(0.01)


def test_after_close_a_result_that_was_not_begun_is_cancelled() -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def make(place: int) -> int:
        begun.set()
        assert goes_on.wait(60)
        return place

    ahead = Ahead(make, range(3), 2, "test")
    assert begun.wait(60)
    ahead.close()
    goes_on.set()
    assert ahead.take(60) == 0
    with pytest.raises(CancelledError):
        ahead.take(60)
