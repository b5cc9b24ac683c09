"""The ledger of attempts, on its own."""

import pytest

from postmean.fleet.attempts import Attempts


def test_a_shard_is_tried_again_as_often_as_its_attempts_allow_and_given_up_with_its_last_cause() -> None:
    ledger = Attempts(most=3, actors=1)
    assert [ledger.failed(7, f"cause {number}", False) for number in range(3)] == [True, True, False]
    assert ledger.outcome.failed == {7: "cause 2"}
    assert (ledger.outcome.retries, ledger.outcome.done) == (2, 0)


def test_attempts_are_counted_anew_once_a_shard_was_made_or_given_up() -> None:
    ledger = Attempts(most=2, actors=1)
    assert ledger.failed(7, "a", False)
    ledger.made(7)
    assert ledger.failed(7, "b", False), "a trainer asked for it again"
    assert not ledger.failed(7, "c", False)
    assert ledger.failed(7, "d", False)


@pytest.mark.parametrize(("is_actor_lost", "failures"), [(False, 48), (True, 16)])
def test_failures_in_a_row_make_a_run_hopeless_and_a_lost_actor_weighs_three(
    is_actor_lost: bool, failures: int
) -> None:
    ledger = Attempts(most=1, actors=2)
    for shard in range(failures):
        assert not ledger.is_hopeless
        ledger.failed(shard, "disk full", is_actor_lost)
    assert ledger.is_hopeless


def test_one_success_in_between_gives_hope() -> None:
    ledger = Attempts(most=1, actors=1)
    for shard in range(23):
        ledger.failed(shard, "disk full", False)
    ledger.made(100)
    for shard in range(23):
        ledger.failed(shard, "disk full", False)
    assert not ledger.is_hopeless


def test_actors_that_do_not_start_make_a_run_hopeless_and_their_cause_is_kept_until_one_does() -> None:
    ledger = Attempts(most=3, actors=1)
    for _ in range(8):
        assert not ledger.is_hopeless
        ledger.start_failed("no such device")
    assert ledger.is_hopeless
    assert ledger.outcome.stopped_by == "no such device"
    ledger.failed(1, "not finite", False)
    assert ledger.outcome.stopped_by is None


def test_a_run_that_stops_gives_up_what_was_tried_and_counts_the_rest() -> None:
    ledger = Attempts(most=3, actors=1)
    ledger.failed(5, "a", False)
    ledger.failed(2, "b", False)
    ledger.failed(2, "c", False)
    ledger.no_room("no room")
    assert ledger.is_hopeless
    assert ledger.stop(waiting=8, making={5, 6}) == [2, 5]
    assert ledger.outcome.failed == {2: "c", 5: "a"}
    assert (ledger.outcome.untried, ledger.outcome.stopped_by) == (8, "no room")


def test_shards_that_waited_for_another_attempt_when_the_backlog_was_closed_are_not_subtracted_from_the_rest() -> None:
    ledger = Attempts(most=3, actors=1)
    for shard in (1, 2, 3):
        ledger.failed(shard, "a", False)
    assert ledger.stop(waiting=0, making={7}) == [1, 2, 3]
    assert ledger.outcome.untried == 1
