"""The dispatcher under thousands of random schedules of faults: each shard is made or accounted for."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from postmean.fleet.backlog import PlannedShards
from postmean.fleet.calls import CallFailed
from postmean.fleet.dispatcher import Dispatcher
from postmean.fleet.outcome import Outcome
from postmean.fleet.settings import FleetSettings
from tests.support.listeners import Record
from tests.support.scripted_calls import DIES, NEVER, START_SECONDS, Answer, ScriptedActor, ScriptedCalls

SHARD_SECONDS, START_DEADLINE, PING_SECONDS = 3.0, 5.0, 30.0
FAILURES_IN_A_ROW = 24

FAULTS = {
    "error of ours": Answer(0.2, failure=CallFailed("not finite", is_ours=True)),
    "other error": Answer(0.2, failure=CallFailed("RuntimeError: the device is lost")),
    "death": DIES,
    "late death": Answer(2.0, dies=True),
    "hang": NEVER,
}


@dataclass(frozen=True)
class Schedule:
    """What happens in a run."""

    shards: int
    actors: int
    min_actors: int
    shards_at_a_time: int
    attempts: int
    idle_seconds: float
    room: int
    loads: list[str]
    """Outcomes of the loads, in order; all later ones succeed."""
    makes: list[str]
    """Outcomes of the attempts, in order; all later ones succeed, or repeat the last of these."""
    is_last_make_for_ever: bool
    kills: list[tuple[int, int, bool]]
    """(tick, actor, freezes): in this tick this living actor dies or freezes."""
    limits: list[int]
    """How many shards may be made in each tick; afterwards all."""
    closes_at: int | None
    """Tick in which the backlog is closed."""


def kinds(most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(["well", "well", "slow", *FAULTS]), max_size=most)


SCHEDULES = st.builds(
    Schedule,
    shards=st.integers(0, 10),
    actors=st.integers(1, 4),
    min_actors=st.integers(0, 4),
    shards_at_a_time=st.integers(1, 3),
    attempts=st.integers(1, 3),
    idle_seconds=st.sampled_from([0.01, 1.0, 60.0]),
    room=st.sampled_from([4, 4, 2, 1, 0]),
    loads=kinds(6),
    makes=kinds(20),
    is_last_make_for_ever=st.booleans(),
    kills=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3), st.booleans()), max_size=4),
    limits=st.lists(st.integers(0, 10), max_size=8),
    closes_at=st.none() | st.integers(0, 20),
)


class World:
    """Runs a schedule."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._loads, self._makes = iter(schedule.loads), iter(schedule.makes)
        self.calls = ScriptedCalls(self._answer, schedule.room)
        self.backlog = PlannedShards(range(schedule.shards))
        self.record = Record(self._tick)
        self.ticks: list[float] = []
        self.faults = 0
        """Loads and attempts that failed by themselves."""
        self.hit: set[int] = set()
        """Shards of these attempts."""
        self.struck: set[ScriptedActor] = set()
        """Actors that the schedule killed or froze, or that a fault ended."""
        self.most_alive = 0

    def run(self) -> Outcome:
        s = self._schedule
        fleet = FleetSettings(
            min_actors=s.min_actors,
            idle_seconds=s.idle_seconds,
            attempts=s.attempts,
            shard_seconds=SHARD_SECONDS,
            start_seconds=START_DEADLINE,
        )
        return Dispatcher(self.calls, fleet, s.actors, self.backlog, [self.record], s.shards_at_a_time).run()

    def longest(self) -> float:
        """Seconds within which the run must end: the sum as if everything ran in turn and took until its deadline.

        Pauses do not count: no run waits for a pause while it has something to do.
        """
        s = self._schedule
        starts = (s.shards + 1) * FAILURES_IN_A_ROW * s.actors + len(s.kills) + s.shards * s.attempts
        shards = s.shards * s.attempts * (s.shards_at_a_time * SHARD_SECONDS + 2)
        return 20 + shards + starts * (START_DEADLINE + START_SECONDS) + len(s.kills) * (PING_SECONDS + 2)

    def _answer(self, actor: ScriptedActor, method: str, *arguments: int) -> Answer:
        self.most_alive = max(self.most_alive, len(self.calls.alive()))
        if method == "make":
            self._check_alone(actor, arguments[0])
        if method == "load":
            kind = next(self._loads, "well")
        else:
            kind = next(self._makes, None)
            if kind is None:
                kind = (self._schedule.makes or ["well"])[-1] if self._schedule.is_last_make_for_ever else "well"
        if kind in FAULTS:
            self.faults += 1
            self.hit.update(arguments)
            if kind != "error of ours":
                self.struck.add(actor)
            return FAULTS[kind]
        value = {"shard": arguments[0]} if method == "make" else None
        return Answer(1.5 if kind == "slow" else 0.1, value)

    def _check_alone(self, actor: ScriptedActor, shard: int) -> None:
        """An actor has not too many shards, and one that failed before is its only one."""
        beside = self.calls.making(actor)
        assert len(beside) < self._schedule.shards_at_a_time
        tried = [made for made, _ in self.calls.made]
        assert not beside or all(tried.count(one) == 1 for one in (shard, *beside))

    def _tick(self, outcome: Outcome) -> None:
        tick = len(self.ticks)
        self.ticks.append(self.calls.now())
        assert self.calls.now() < self.longest(), "a hang"
        assert outcome.done == len(self.record.done) and outcome.failed == self.record.causes
        self.backlog.limit = self._schedule.limits[tick] if tick < len(self._schedule.limits) else None
        if tick == self._schedule.closes_at:
            self.backlog.is_closed = True
        for when, which, freezes in self._schedule.kills:
            if when == tick and (alive := self.calls.alive()):
                actor = alive[which % len(alive)]
                (self.calls.freeze if freezes else self.calls.die)(actor)
                self.struck.add(actor)


@settings(max_examples=2000)
@given(SCHEDULES)
def test_every_shard_is_made_once_or_accounted_for_and_nothing_hangs_or_is_left_behind(schedule: Schedule) -> None:
    world = World(schedule)
    outcome = world.run()
    made, failed = world.record.done, world.record.causes

    assert len(made) == len(set(made)) == outcome.done, "each shard is made once"
    assert failed == outcome.failed and not failed.keys() & set(made)
    assert all(failed.values()), "each failure has a cause"
    hit = world.hit | {shard for shard, actor in world.calls.made if actor in world.struck}
    assert failed.keys() <= hit, "what met no fault is not given up"
    if world.backlog.is_closed:
        assert 0 <= outcome.untried < schedule.actors * schedule.shards_at_a_time, "what was being made"
    else:
        assert outcome.untried == schedule.shards - len(made) - len(failed), "what is neither is counted"

    tried = Counter(shard for shard, _ in world.calls.made)
    assert all(count <= schedule.attempts for count in tried.values())
    # an actor that freezes before it is placed looks like one without room
    lacks_room = not schedule.room or any(freezes for _, _, freezes in schedule.kills)
    # no fault counts for more than 3, and those beside it for 1 each
    faults = (2 + schedule.shards_at_a_time) * (world.faults + len(world.struck))
    if faults < FAILURES_IN_A_ROW * schedule.actors and not lacks_room and not world.backlog.is_closed:
        assert all(tried[shard] == schedule.attempts for shard in failed), "each attempt is made use of"
        assert outcome.untried == 0, "so few faults stop no run"

    assert world.calls.now() < world.longest()
    assert all(later - earlier <= 2.1 for earlier, later in zip(world.ticks, world.ticks[1:], strict=False))
    assert world.calls.killed == set(world.calls.actors), "no actor is left behind"
    assert world.most_alive <= min(schedule.actors, schedule.room)
