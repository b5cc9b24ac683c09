"""The dispatcher with real Ray actors that fail in every way; the actors of a run differ in what `make` does."""

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postmean.base.errors import EstimatorError
from postmean.fleet.backlog import PlannedShards
from postmean.fleet.ray_session import ray_session


class FaultyActor:
    """Commits shards by writing a file; `faults` says what befalls which shard.

    A fault ending in "once" befalls the first call alone: a file, which outlives the process, tells.
    """

    def __init__(self, folder: str, faults: dict[int, str], starts: bool = True) -> None:
        self._folder, self._faults, self._starts = Path(folder), faults, starts

    def placed(self) -> None:
        pass

    def load(self) -> None:
        if not self._starts:
            raise EstimatorError("no such device")
        (self._folder / f"actor-{os.getpid()}").touch()

    def make(self, shard: int) -> dict[str, Any]:
        fault, _, once = self._faults.get(shard, "").partition(" ")
        seen = self._folder / f"seen-{shard}"
        if not (once and seen.exists()):
            seen.touch()
            match fault:
                case "crash":
                    (self._folder / f"crashed-{os.getpid()}").touch()
                    raise RuntimeError("the device is lost")
                case "raise":
                    raise EstimatorError(f"shard {shard} is not finite\nand more")
                case "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "exit":
                    os._exit(1)
                case "outlast":  # die when shard 1 is there
                    while not (self._folder / "1").exists():
                        time.sleep(0.01)
                    os.kill(os.getpid(), signal.SIGKILL)
                case "misfit":  # the first actor to come here has the one device that works
                    with contextlib.suppress(FileExistsError):
                        os.symlink(str(os.getpid()), self._folder / "fit")
                    if os.readlink(self._folder / "fit") != str(os.getpid()):
                        (self._folder / f"crashed-{os.getpid()}").touch()
                        raise RuntimeError("the device is lost")
                    time.sleep(0.5)
                case "freeze":
                    os.kill(os.getpid(), signal.SIGSTOP)
        (self._folder / f"{shard}").write_text(f"{os.getpid()}")
        return {"shard": shard, "records": 1, "seconds": 0.0}


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with ray_session(2, 0):
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
        yield ray


@pytest.fixture
def dispatch(ray: Any, tmp_path: Path) -> Callable[..., Any]:
    from postmean.fleet.dispatcher import Dispatcher

    def run(
        shards: int | PlannedShards,
        faults: dict[int, str],
        starts: bool = True,
        cpus: int = 1,
        on_tick: Callable[[Any], None] = lambda outcome: None,
        **settings: Any,
    ) -> Any:
        def make() -> Any:
            options = {"num_cpus": cpus, "max_restarts": 0, "max_task_retries": 0}
            return ray.remote(FaultyActor).options(**options).remote(str(tmp_path), faults, starts)

        chosen = {"actors": 2, "attempts": 3, "shard_seconds": 60.0, "start_seconds": 300.0} | settings
        done: list[int] = []
        failed: dict[int, str] = {}
        outcome = Dispatcher(make, **chosen).run(
            shards if isinstance(shards, PlannedShards) else PlannedShards(range(shards)),
            lambda found: done.append(found["shard"]),
            failed.__setitem__,
            on_tick,
        )
        assert len(done) == outcome.done
        assert failed == outcome.failed
        assert sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()) == sorted(done)
        return outcome

    return run


def test_shards_that_always_fail_are_reported_and_the_rest_is_done(dispatch: Callable[..., Any]) -> None:
    outcome = dispatch(20, {3: "raise", 5: "die", 8: "exit"})
    assert outcome.done == 17
    assert outcome.failed.keys() == {3, 5, 8}
    assert outcome.failed[3] == "shard 3 is not finite"
    assert "process died" in outcome.failed[5] and "process died" in outcome.failed[8]
    assert outcome.untried == 0
    assert outcome.retries == 6


def test_what_fails_once_is_tried_again(dispatch: Callable[..., Any]) -> None:
    outcome = dispatch(12, {0: "raise once", 1: "die once", 11: "exit once"})
    assert (outcome.done, outcome.failed, outcome.retries) == (12, {}, 3)


def test_a_frozen_actor_is_replaced_by_its_deadline(dispatch: Callable[..., Any]) -> None:
    began = time.monotonic()
    outcome = dispatch(8, {5: "freeze once"}, shard_seconds=2.0, start_seconds=100.0)
    assert (outcome.done, outcome.failed, outcome.retries) == (8, {}, 1)
    # shard 5 is not its actor's first: the time to start is not on top
    assert time.monotonic() - began < 90


@pytest.mark.slow
def test_a_shard_that_freezes_every_actor_is_reported(dispatch: Callable[..., Any]) -> None:
    outcome = dispatch(3, {1: "freeze"}, shard_seconds=1.0, start_seconds=3.0, attempts=2)
    assert outcome.failed.keys() == {1}
    assert "no answer within 1 s" in outcome.failed[1]


def test_a_cause_that_all_shards_share_stops_the_run(dispatch: Callable[..., Any]) -> None:
    outcome = dispatch(10_000, dict.fromkeys(range(4, 10_000), "raise"), actors=1)
    assert outcome.done == 4
    assert 1 <= len(outcome.failed) < 100
    assert len(outcome.failed) + outcome.untried == 9_996


@pytest.mark.slow
def test_actors_that_cannot_start_stop_the_run_with_their_reason(dispatch: Callable[..., Any]) -> None:
    outcome = dispatch(1000, {}, starts=False, actors=1)
    assert not outcome.done
    assert outcome.stopped_by == "no such device"
    assert (len(outcome.failed), outcome.untried) == (0, 1000)


def test_actors_without_room_leave_the_work_to_the_others(dispatch: Callable[..., Any]) -> None:
    outcome = dispatch(20, {0: "die once"}, actors=9)  # of one CPU each, on two
    assert (outcome.done, outcome.retries) == (20, 1)


def test_a_run_without_room_for_any_actor_ends(dispatch: Callable[..., Any]) -> None:
    outcome = dispatch(20, {}, cpus=3, start_seconds=3.0)
    assert (outcome.done, outcome.untried) == (0, 20)
    assert outcome.stopped_by == "no room for an actor within 3 s"


def test_idle_actors_are_released_and_hired_again_when_there_is_work(dispatch: Callable[..., Any]) -> None:
    backlog = PlannedShards(range(20))
    backlog.limit = 8
    seen: list[tuple[int, int]] = []

    def on_tick(outcome: Any) -> None:
        seen.append((outcome.done, outcome.actors))
        if seen[-1] == (8, 0):
            backlog.limit = None

    outcome = dispatch(backlog, {}, on_tick=on_tick, min_actors=0, idle_seconds=1.0)
    assert (outcome.done, outcome.failed) == (20, {})
    assert seen[0] == (0, 2)
    assert (8, 0) in seen, "what was done after it, new actors did"


def test_the_fewest_actors_stay_when_idle(dispatch: Callable[..., Any]) -> None:
    backlog = PlannedShards(range(20))
    backlog.limit = 8
    idle: list[int] = []

    def on_tick(outcome: Any) -> None:
        if outcome.done == 8:
            idle.append(outcome.actors)
        if idle[-3:] == [1, 1, 1] or len(idle) == 100:
            backlog.is_closed = True

    outcome = dispatch(backlog, {}, on_tick=on_tick, min_actors=1, idle_seconds=0.5)
    assert (outcome.done, outcome.failed, outcome.untried) == (8, {}, 0)
    assert idle[-1] == min(idle) == 1


def test_the_fewest_actors_are_ready_before_there_is_work(dispatch: Callable[..., Any]) -> None:
    backlog = PlannedShards(range(4))
    backlog.limit = 0

    def on_tick(outcome: Any) -> None:
        if outcome.ready == 2:
            backlog.limit = None

    assert dispatch(backlog, {}, on_tick=on_tick, min_actors=2).done == 4


def test_the_last_shards_have_a_spare_actor(dispatch: Callable[..., Any], tmp_path: Path) -> None:
    outcome = dispatch(2, {0: "outlast once"})
    assert (outcome.done, outcome.retries) == (2, 1)
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text(), "nobody had to start first"


def test_an_actor_that_raised_what_is_no_error_of_ours_is_replaced(
    dispatch: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = dispatch(6, {2: "crash"}, actors=1)
    assert (outcome.done, outcome.retries) == (5, 2)
    assert outcome.failed == {2: "RuntimeError: the device is lost"}
    assert len(list(tmp_path.glob("crashed-*"))) == 3, "each time in another process"


@pytest.mark.parametrize("fault", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_actors_that_died_while_they_were_idle_cost_no_shard_an_attempt(
    dispatch: Callable[..., Any], tmp_path: Path, fault: signal.Signals
) -> None:
    backlog = PlannedShards(range(4))
    backlog.limit = 0
    ready: list[bool] = []

    def on_tick(outcome: Any) -> None:
        ready.append(outcome.ready == 2)
        if ready[-1] and sum(ready) == 3:  # idle for two seconds
            for actor in tmp_path.glob("actor-*"):
                os.kill(int(actor.name.removeprefix("actor-")), fault)
            backlog.limit = None

    outcome = dispatch(backlog, {}, on_tick=on_tick, min_actors=2, attempts=1)
    assert (outcome.done, outcome.failed, outcome.retries) == (4, {}, 0)


def test_a_broken_device_is_tried_less_and_less_often_and_costs_no_shard(
    dispatch: Callable[..., Any], tmp_path: Path
) -> None:
    began = time.monotonic()
    outcome = dispatch(30, dict.fromkeys(range(30), "misfit"))
    assert (outcome.done, outcome.failed) == (30, {})
    # at once, at once, then after 5 s, 10 s, 20 s ...
    crashes = len(list(tmp_path.glob("crashed-*")))
    assert 1 <= crashes <= 3 + math.log2(1 + (time.monotonic() - began) / 5)
