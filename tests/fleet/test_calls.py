"""The interface between dispatcher and Ray: real Ray and the scripted stand-in of the tests behave the same."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from postmean.base.errors import EstimatorError
from postmean.fleet.backlog import PlannedShards
from postmean.fleet.calls import Actor, Call, CallFailed, Calls
from postmean.fleet.dispatcher import Dispatcher
from postmean.fleet.ray_session import ray_session
from postmean.fleet.ray_thread import RayThread
from postmean.fleet.settings import FleetSettings
from tests.support.listeners import Record
from tests.support.runs import PATIENCE
from tests.support.scripted_calls import DIES, NEVER, Answer, ScriptedActor, ScriptedCalls

FAULTS = {0: "", 1: "raise", 2: "crash", 3: "die", 4: "freeze"}
"""Fault of each shard; there is room for two actors."""
OPTIONS = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}


class FaultyActor:
    """Does what `FAULTS` says."""

    def __init__(self, faults: dict[int, str]) -> None:
        self._faults = faults

    def placed(self) -> None:
        pass

    def load(self) -> int:
        return os.getpid()

    def make(self, shard: int) -> dict[str, Any]:
        match self._faults[shard]:
            case "raise":
                raise EstimatorError(f"shard {shard} is not finite\nand more")
            case "crash":
                raise RuntimeError("the device is lost\nand more")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "freeze":
                os.kill(os.getpid(), signal.SIGSTOP)
        return {"shard": shard}


class FrozenActor:
    """Freezes as it starts."""

    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def placed(self) -> None:
        pass


def script(actor: ScriptedActor, method: str, *arguments: int) -> Answer:
    """The same faults as answers of `ScriptedCalls`."""
    if method == "load":
        return Answer(value=actor.number)
    (shard,) = arguments
    return {
        "": Answer(value={"shard": shard}),
        "raise": Answer(failure=CallFailed(f"shard {shard} is not finite and more", is_ours=True)),
        "crash": Answer(failure=CallFailed("RuntimeError: the device is lost")),
        "die": DIES,
        "freeze": NEVER,
    }[FAULTS[shard]]


@pytest.fixture(scope="module")
def ray_thread() -> Iterator[RayThread]:
    with ray_session(2, 0) as thread:
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
        yield thread


@pytest.fixture(params=["ray", "script"])
def calls(request: pytest.FixtureRequest) -> Calls:
    if request.param == "script":
        return ScriptedCalls(script, room=2)
    thread = request.getfixturevalue("ray_thread")
    from postmean.fleet.ray_calls import RayCalls

    return RayCalls(thread, FaultyActor, (FAULTS,), OPTIONS)


@pytest.fixture
def hire(calls: Calls) -> Iterator[Callable[[], Actor]]:
    """Starts actors; they are killed after the test."""
    actors: list[Actor] = []

    def start() -> Actor:
        actors.append(calls.start())
        return actors[-1]

    yield start
    for actor in actors:
        calls.kill(actor)


def ends(calls: Calls, call: Call, seconds: float = PATIENCE) -> bool:
    """Whether the call ends in time."""
    ended, others = calls.wait([call], seconds)
    assert ended + others == [call]
    return bool(ended)


def failure(calls: Calls, call: Call) -> CallFailed:
    """How the call failed."""
    assert ends(calls, call)
    with pytest.raises(CallFailed) as raised:
        calls.result(call)
    return raised.value


def test_an_actor_is_placed_loads_and_makes(calls: Calls, hire: Callable[[], Actor]) -> None:
    actor = hire()
    for method, arguments, result in (("placed", (), None), ("make", (0,), {"shard": 0})):
        call = calls.call(actor, method, *arguments)
        assert ends(calls, call)
        assert calls.result(call) == result


def test_an_exception_of_ours_and_another_are_told_apart_and_the_actor_lives(
    calls: Calls, hire: Callable[[], Actor]
) -> None:
    actor = hire()
    assert ends(calls, calls.call(actor, "placed"))
    ours = failure(calls, calls.call(actor, "make", 1))
    assert (ours.cause, ours.is_ours) == ("shard 1 is not finite and more", True)
    other = failure(calls, calls.call(actor, "make", 2))
    assert (other.cause, other.is_ours) == ("RuntimeError: the device is lost", False)
    assert ends(calls, calls.call(actor, "placed"))


def test_a_process_that_was_killed_fails_this_call_and_all_that_follow(calls: Calls, hire: Callable[[], Actor]) -> None:
    actor = hire()
    assert ends(calls, calls.call(actor, "placed"))
    for shard in (3, 0):
        death = failure(calls, calls.call(actor, "make", shard))
        assert (death.cause, death.is_ours) == (
            "the actor's process died: it was killed, ran out of memory or crashed",
            False,
        )
    calls.kill(actor)  # it is dead already


def test_a_call_that_does_not_end_is_waited_for_no_longer_than_asked_and_ended_by_a_kill(
    calls: Calls, hire: Callable[[], Actor]
) -> None:
    actor = hire()
    assert ends(calls, calls.call(actor, "placed"))
    frozen, began = calls.call(actor, "make", 4), calls.now()
    assert not ends(calls, frozen, seconds=0.5)
    assert calls.now() - began >= 0.5
    calls.kill(actor)
    assert "died" in failure(calls, frozen).cause


def test_an_actor_without_room_waits_until_another_is_released(calls: Calls, hire: Callable[[], Actor]) -> None:
    actors = [hire() for _ in range(3)]
    placed = [calls.call(actor, "placed") for actor in actors]
    waiting = set(placed)
    for _ in range(2):
        ended, _ = calls.wait(list(waiting), PATIENCE)
        waiting -= set(ended)
    (late,) = waiting
    assert not ends(calls, late, seconds=1.0)
    calls.kill(actors[next(number for number, call in enumerate(placed) if call is not late)])
    assert ends(calls, late)
    calls.result(late)


@pytest.mark.slow
def test_the_room_of_actors_that_froze_as_they_started_is_free_once_they_are_killed(ray_thread: RayThread) -> None:
    from postmean.fleet.ray_calls import RayCalls

    frozen, well = RayCalls(ray_thread, FrozenActor, (), OPTIONS), RayCalls(ray_thread, FaultyActor, (FAULTS,), OPTIONS)
    actors = [frozen.start() for _ in range(2)]  # there is room for no more
    placed = [frozen.call(actor, "placed") for actor in actors]
    actors.append(well.start())
    placed.append(well.call(actors[2], "placed"))
    assert not well.wait(placed, 8.0)[0]
    for actor in actors[:2]:
        frozen.kill(actor)
    assert ends(well, placed[2])
    well.result(placed[2])
    well.kill(actors[2])


def test_a_run_with_every_fault_is_accounted_for(calls: Calls) -> None:
    """With the dispatcher and its deadline."""
    record = Record()
    fleet = FleetSettings(attempts=1, shard_seconds=10.0, start_seconds=PATIENCE)
    outcome = Dispatcher(calls, fleet, 2, PlannedShards(list(FAULTS)), [record]).run()
    assert record.done == [0] and outcome.done == 1
    assert {shard: cause.split(":")[0] for shard, cause in record.causes.items()} == {
        1: "shard 1 is not finite and more",
        2: "RuntimeError",
        3: "the actor's process died",
        4: "no answer within 10 s",
    }
    assert outcome.untried == outcome.retries == 0
