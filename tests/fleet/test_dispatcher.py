"""The dispatcher with scripted actors that fail in every way, on a clock of the tests."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from postmean.fleet.backlog import PlannedShards
from postmean.fleet.calls import CallFailed
from postmean.fleet.dispatcher import Dispatcher
from postmean.fleet.outcome import Outcome
from postmean.fleet.settings import FleetSettings
from tests.support.listeners import Record
from tests.support.scripted_calls import DIES, NEVER, Answer, ScriptedActor, ScriptedCalls

CRASH = Answer(failure=CallFailed("RuntimeError: the device is lost"))


class Faults:
    """The script: `faults` maps shards to faults.

    A fault ending in "once" affects only the first call.
    """

    def __init__(self, faults: dict[int, str], starts: bool = True) -> None:
        self._faults, self._starts = faults, starts
        self._seen: set[int] = set()
        self._fit: ScriptedActor | None = None
        self.crashed: list[ScriptedActor] = []
        """Actors that raised an error that is not ours."""

    def __call__(self, actor: ScriptedActor, method: str, *arguments: int) -> Answer:
        if method == "load":
            return Answer(1.0) if self._starts else Answer(failure=CallFailed("no such device", is_ours=True))
        (shard,) = arguments
        fault, _, once = self._faults.get(shard, "").partition(" ")
        done = Answer(0.01, {"shard": shard, "records": 1, "seconds": 0.01})
        if once and shard in self._seen:
            return done
        self._seen.add(shard)
        match fault:
            case "crash":
                self.crashed.append(actor)
                return CRASH
            case "raise":
                return Answer(failure=CallFailed(f"shard {shard} is not finite", is_ours=True))
            case "die" | "exit":
                return DIES
            case "outlast":  # dies when the other shards are done
                return Answer(5.0, dies=True)
            case "misfit":  # the first actor to get here has the only working device
                self._fit = self._fit or actor
                if actor is not self._fit:
                    self.crashed.append(actor)
                    return CRASH
                return Answer(0.5, done.value)
            case "freeze":
                return NEVER
        return done


class Run:
    """One run to its end.

    Args:
        room: actors that the cluster has room for.
        on_tick: called with the run and the outcome so far.
        settings: settings of the fleet.
    """

    def __init__(
        self,
        shards: int | PlannedShards,
        faults: dict[int, str],
        starts: bool = True,
        room: int = 2,
        on_tick: Callable[["Run", Outcome], None] = lambda run, outcome: None,
        actors: int = 2,
        **settings: Any,
    ) -> None:
        self.faults = Faults(faults, starts)
        self.calls = ScriptedCalls(self.faults, room)
        self.record = Record(lambda outcome: on_tick(self, outcome))
        chosen: dict[str, Any] = {"attempts": 3, "shard_seconds": 60.0, "start_seconds": 300.0} | settings
        backlog = shards if isinstance(shards, PlannedShards) else PlannedShards(range(shards))
        fleet = FleetSettings(**chosen)
        self.outcome = Dispatcher(self.calls, fleet, actors, backlog, [self.record]).run()
        assert len(self.record.done) == len(set(self.record.done)) == self.outcome.done
        assert self.record.causes == self.outcome.failed
        assert self.calls.killed == set(self.calls.actors), "no actor is left behind"


def test_shards_that_always_fail_are_reported_and_the_rest_is_done() -> None:
    outcome = Run(20, {3: "raise", 5: "die", 8: "exit"}).outcome
    assert outcome.done == 17
    assert outcome.failed.keys() == {3, 5, 8}
    assert outcome.failed[3] == "shard 3 is not finite"
    assert "process died" in outcome.failed[5] and "process died" in outcome.failed[8]
    assert outcome.untried == 0
    assert outcome.retries == 6


def test_what_fails_once_is_tried_again() -> None:
    outcome = Run(12, {0: "raise once", 1: "die once", 11: "exit once"}).outcome
    assert (outcome.done, outcome.failed, outcome.retries) == (12, {}, 3)


def test_a_frozen_actor_is_replaced_by_its_deadline() -> None:
    run = Run(8, {5: "freeze once"}, shard_seconds=2.0, start_seconds=100.0)
    assert (run.outcome.done, run.outcome.failed, run.outcome.retries) == (8, {}, 1)
    # shard 5 is not its actor's first: start time is not added to its deadline
    assert 2 < run.calls.now() < 10


def test_a_shard_that_freezes_every_actor_is_reported() -> None:
    outcome = Run(3, {1: "freeze"}, shard_seconds=1.0, start_seconds=3.0, attempts=2).outcome
    assert outcome.failed.keys() == {1}
    assert "no answer within 1 s" in outcome.failed[1]


def test_a_cause_that_all_shards_share_stops_the_run() -> None:
    outcome = Run(10_000, dict.fromkeys(range(4, 10_000), "raise"), actors=1).outcome
    assert outcome.done == 4
    assert 1 <= len(outcome.failed) < 100
    assert len(outcome.failed) + outcome.untried == 9_996


def test_actors_that_cannot_start_stop_the_run_with_their_reason() -> None:
    outcome = Run(1000, {}, starts=False, actors=1).outcome
    assert not outcome.done
    assert outcome.stopped_by == "no such device"
    assert (len(outcome.failed), outcome.untried) == (0, 1000)


def test_actors_without_room_leave_the_work_to_the_others() -> None:
    outcome = Run(20, {0: "die once"}, actors=9).outcome  # there is room for two
    assert (outcome.done, outcome.retries) == (20, 1)


def test_a_run_without_room_for_any_actor_ends() -> None:
    run = Run(20, {}, room=0, start_seconds=3.0)
    assert (run.outcome.done, run.outcome.untried) == (0, 20)
    assert run.outcome.stopped_by == "no room for an actor within 3 s"
    assert 3 <= run.calls.now() < 5


def test_an_actor_that_froze_as_it_started_loses_its_place_to_another() -> None:
    def on_tick(run: Run, outcome: Outcome) -> None:
        if not frozen and run.calls.alive():
            frozen.append(run.calls.alive()[0])
            run.calls.freeze(frozen[0])

    frozen: list[ScriptedActor] = []
    run = Run(2_000, {}, on_tick=on_tick, start_seconds=3.0)
    assert (run.outcome.done, run.outcome.failed, run.outcome.retries) == (2_000, {}, 0)
    assert [actor.state for actor in frozen] == ["dead"]
    assert len(run.calls.actors) == 3
    makers = {actor for _, actor in run.calls.made}
    assert makers == set(run.calls.actors) - set(frozen), "its place was filled"


def test_waiting_long_for_room_is_no_failure() -> None:
    run = Run(2_000, {}, room=1, start_seconds=3.0)
    assert (run.outcome.done, run.outcome.failed, run.outcome.retries) == (2_000, {}, 0)
    assert run.calls.now() > 12.0 and len(run.calls.actors) >= 4, "asked for again and again"


def test_idle_actors_are_released_and_hired_again_when_there_is_work() -> None:
    backlog = PlannedShards(range(20))
    backlog.limit = 8
    seen: list[tuple[int, int]] = []

    def on_tick(run: Run, outcome: Outcome) -> None:
        seen.append((outcome.done, outcome.actors))
        if seen[-1] == (8, 0):
            assert not run.calls.alive()
            backlog.limit = None

    outcome = Run(backlog, {}, on_tick=on_tick, min_actors=0, idle_seconds=1.0).outcome
    assert (outcome.done, outcome.failed) == (20, {})
    assert seen[0] == (0, 2)
    assert (8, 0) in seen, "what was done after it, new actors did"


def test_the_fewest_actors_stay_when_idle() -> None:
    backlog = PlannedShards(range(20))
    backlog.limit = 8
    idle: list[int] = []

    def on_tick(run: Run, outcome: Outcome) -> None:
        if outcome.done == 8:
            idle.append(outcome.actors)
        if idle[-3:] == [1, 1, 1] or len(idle) == 100:
            backlog.is_closed = True

    outcome = Run(backlog, {}, on_tick=on_tick, min_actors=1, idle_seconds=0.5).outcome
    assert (outcome.done, outcome.failed, outcome.untried) == (8, {}, 0)
    assert idle[-1] == min(idle) == 1


def test_the_fewest_actors_are_ready_before_there_is_work() -> None:
    backlog = PlannedShards(range(4))
    backlog.limit = 0

    def on_tick(run: Run, outcome: Outcome) -> None:
        if outcome.ready == 2:
            backlog.limit = None

    assert Run(backlog, {}, on_tick=on_tick, min_actors=2).outcome.done == 4


def test_the_last_shards_have_a_spare_actor() -> None:
    run = Run(2, {0: "outlast once"})
    assert (run.outcome.done, run.outcome.retries) == (2, 1)
    makers = dict(run.calls.made)  # the last actor to try each shard
    assert makers[0] is makers[1], "nobody had to start first"


def test_an_actor_that_raised_what_is_no_error_of_ours_is_replaced() -> None:
    run = Run(6, {2: "crash"}, actors=1)
    assert (run.outcome.done, run.outcome.retries) == (5, 2)
    assert run.outcome.failed == {2: "RuntimeError: the device is lost"}
    assert len(set(run.faults.crashed)) == 3, "each time another actor"


def test_an_actor_that_raised_an_error_of_ours_is_kept() -> None:
    run = Run(6, {2: "raise"}, actors=1)
    assert run.outcome.failed == {2: "shard 2 is not finite"}
    assert len(run.calls.actors) == 1


@pytest.mark.parametrize("fault", ["die", "freeze"])
def test_actors_that_died_while_they_were_idle_cost_no_shard_an_attempt(fault: str) -> None:
    backlog = PlannedShards(range(4))
    backlog.limit = 0
    ready: list[bool] = []

    def on_tick(run: Run, outcome: Outcome) -> None:
        ready.append(outcome.ready == 2)
        if ready[-1] and sum(ready) == 3:  # idle for two seconds
            for actor in run.calls.alive():
                getattr(run.calls, fault)(actor)
            backlog.limit = None

    outcome = Run(backlog, {}, on_tick=on_tick, min_actors=2, attempts=1).outcome
    assert sum(ready) >= 3
    assert (outcome.done, outcome.failed, outcome.retries) == (4, {}, 0)


def test_a_broken_device_is_tried_less_and_less_often_and_costs_no_shard() -> None:
    run = Run(30, dict.fromkeys(range(30), "misfit"))
    assert (run.outcome.done, run.outcome.failed) == (30, {})
    # tried twice at once, then after 5 s, 10 s, 20 s ...
    assert 3 <= len(run.faults.crashed) <= 3 + math.log2(1 + run.calls.now() / 5)


def test_a_broken_device_is_tried_every_ten_minutes_at_last() -> None:
    run = Run(6_000, dict.fromkeys(range(6_000), "misfit"), attempts=10)
    assert (run.outcome.done, run.outcome.failed) == (6_000, {})
    assert run.calls.now() > 2_500
    # two tries at once, seven pauses of 5 s to 320 s (635 s in all), then pauses of 600 s
    assert len(run.faults.crashed) == pytest.approx(9 + (run.calls.now() - 635) / 600, abs=2)


def test_what_a_listener_raises_ends_the_run_and_leaves_no_actor() -> None:
    calls = ScriptedCalls(Faults({}), room=2)

    def stop(outcome: Outcome) -> None:
        if outcome.ready:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Dispatcher(calls, FleetSettings(), 2, PlannedShards(range(1000)), [Record(stop)]).run()
    assert calls.actors and calls.killed == set(calls.actors)
