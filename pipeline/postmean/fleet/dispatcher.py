"""The dispatcher: hands shards to actors until each is committed or has failed for good.

A shard whose call fails is tried again, as often as its attempts allow, and alone on its actor: one that ends its actor
then ends no others. Actors are hired while there are shards for
them; those without room wait for it. Actors that have been idle for long are released. A shard that fails does not stop
the others, and no failure makes the run hang.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from postmean.base.log import log_event
from postmean.fleet.attempts import Attempts
from postmean.fleet.backlog import Backlog
from postmean.fleet.calls import Call, Calls
from postmean.fleet.listener import Listener
from postmean.fleet.outcome import Outcome
from postmean.fleet.settings import FleetSettings
from postmean.fleet.worker import Alive, IdleLost, Made, NotPlaced, Settled, ShardFailed, StartFailed, Worker

_TICK_SECONDS = 1.0
_IDLE_SECONDS = 0.05  # between checks for a shard that an idle actor can make


class Dispatcher:
    """Makes the shards of one backlog.

    Args:
        actors: most actors to have, whatever the settings say.
        shards_at_a_time: that an actor makes.
        listeners: called for every event, in this order.
    """

    def __init__(
        self,
        calls: Calls,
        settings: FleetSettings,
        actors: int,
        backlog: Backlog,
        listeners: Sequence[Listener],
        shards_at_a_time: int = 1,
    ) -> None:
        self._calls, self._settings, self._backlog, self._listeners = calls, settings, backlog, listeners
        self._most, self._least = actors, min(actors, settings.min_actors)
        self._attempts = Attempts(settings.attempts, actors)
        self._workers: list[Worker] = []
        self._shards_at_a_time = shards_at_a_time
        self._alone: deque[int] = deque()  # taken, to be made by an actor that makes nothing else
        self._tick_at = 0.0
        self._room_by = calls.now() + settings.start_seconds

    def run(self) -> Outcome:
        """Make every shard, with as many attempts as allowed, until the backlog is over or the run is hopeless."""
        try:
            while not self._backlog.is_over() or self._taken():
                self._end_pauses()
                self._assign()
                self._resize()
                self._tick()
                for worker, call, is_late in self._ended():
                    if call in worker.calls:  # not lost with another call of its actor
                        for settled in worker.settle(call, is_late, self._are_others_ready(worker)):
                            self._note(settled)
                self._check_room()
                if self._attempts.is_hopeless:
                    self._tell_given_up(self._attempts.stop(len(self._backlog), self._taken()))
                    break
        finally:
            for worker in self._workers:
                worker.release()
        return self._attempts.outcome

    def _taken(self) -> set[int]:
        """Shards that are being made, or wait for an actor of their own."""
        return {*self._alone, *(shard for worker in self._workers for shard in worker.shards)}

    def _busy(self) -> int:
        """Workers that are needed for the shards taken already."""
        return sum(bool(worker.shards) for worker in self._workers) + len(self._alone)

    def _are_others_ready(self, worker: Worker) -> bool:
        return any(other.is_ready for other in self._workers if other is not worker)

    def _end_pauses(self) -> None:
        for worker in self._workers:
            if worker.phase == "paused":
                worker.go_on(self._are_others_ready(worker))

    def _assign(self) -> None:
        """Give shards to idle workers, the last to finish first; ping instead those not heard from for some time.

        If more wait than there are workers without one, workers with room get another.
        """
        idle = sorted((w for w in self._workers if w.phase == "idle"), key=lambda w: -w.idle_since)
        for worker in idle[: len(self._alone) + self._backlog.takeable(len(idle))]:
            if not worker.is_fresh:
                worker.ping()
            elif self._alone:
                worker.make(self._alone.popleft())
            elif (shard := self._backlog.take()) is not None:
                worker.make(shard)
        if self._shards_at_a_time > 1:
            self._fill()

    def _fill(self) -> None:
        """Give further shards to workers that make some, as long as no failed shard waits for an idle one."""
        with_room = [w for w in self._workers if w.has_room and not any(map(self._attempts.has_failed, w.shards))]
        without = sum(not w.shards for w in self._workers)
        surplus = self._backlog.takeable(without + len(with_room)) - without
        for worker in sorted(with_room, key=lambda w: len(w.shards))[: max(0, surplus)]:
            if self._alone:
                return
            shard = self._backlog.take()
            if shard is not None and self._attempts.has_failed(shard):
                self._alone.append(shard)
            elif shard is not None:
                worker.make(shard)

    def _resize(self) -> None:
        """Hire for takeable shards and up to the minimum; release surplus workers when no shard can be taken."""
        over, takeable, busy = self._backlog.is_over(), self._backlog.takeable(self._most), self._busy()
        least = busy + 1 if over else self._least  # one spare, for a shard that fails on another worker
        wanted = min(self._most, max(busy + takeable, least))
        if not over:
            for _ in range(wanted - len(self._workers)):
                settings = self._settings
                self._workers.append(
                    Worker(self._calls, settings.shard_seconds, settings.start_seconds, self._shards_at_a_time)
                )
        if not takeable:
            self._release(len(self._workers) - wanted, 0.0 if over else self._settings.idle_seconds)

    def _release(self, count: int, idle_seconds: float) -> None:
        """Release up to `count` workers: first those without a placed actor, then those idle for `idle_seconds`."""
        until = self._calls.now() - idle_seconds
        waiting = [w for w in self._workers if w.is_vacant or (w.phase == "idle" and w.idle_since <= until)]
        for worker in sorted(waiting, key=lambda w: w.phase == "idle")[: max(0, count)]:
            log_event("actor released", phase=worker.phase)
            worker.release()
            self._workers.remove(worker)

    def _tick(self) -> None:
        if self._calls.now() < self._tick_at:
            return
        outcome = self._attempts.outcome
        outcome.waiting, outcome.actors = len(self._backlog), len(self._workers)
        outcome.ready = sum(worker.is_ready for worker in self._workers)
        for listener in self._listeners:
            listener.tick(outcome)
        self._tick_at = self._calls.now() + _TICK_SECONDS

    def _ended(self) -> list[tuple[Worker, Call, bool]]:
        """Calls that have ended (False) or missed their deadline (True), with their workers; waits at most a second."""
        of_call = {call: worker for worker in self._workers for call in worker.calls}
        if not of_call:
            self._calls.sleep(_IDLE_SECONDS)
            return []
        waiting = any(not worker.calls for worker in self._workers)  # for a shard
        ended, running = self._calls.wait(list(of_call), _IDLE_SECONDS if waiting else _TICK_SECONDS)
        late = [call for call in running if of_call[call].is_late(call)]
        return [(of_call[call], call, False) for call in ended] + [(of_call[call], call, True) for call in late]

    def _note(self, settled: Settled) -> None:
        """Enter the result of a call into the ledger and tell the listeners."""
        match settled:
            case Made(shard, result):
                self._attempts.made(shard)
                for listener in self._listeners:
                    listener.made(result)
            case ShardFailed(shard, cause, is_actor_lost):
                log_event("shard failed", shard=shard, cause=cause, replaced=is_actor_lost)
                if self._attempts.failed(shard, cause, is_actor_lost):
                    self._backlog.put_back(shard)
                else:
                    self._tell_given_up([shard])
            case StartFailed(cause):
                log_event("actor did not start", cause=cause)
                self._attempts.start_failed(cause)
            case IdleLost(cause):
                log_event("idle actor lost", cause=cause)
            case NotPlaced():
                log_event("actor not placed", seconds=self._settings.start_seconds)
            case Alive():
                pass

    def _check_room(self) -> None:
        """End the run if every worker has been waiting for room for too long."""
        now = self._calls.now()
        if not self._workers or any(worker.phase != "placing" for worker in self._workers):
            self._room_by = now + self._settings.start_seconds
        elif now >= self._room_by:
            self._attempts.no_room(f"no room for an actor within {self._settings.start_seconds:g} s")

    def _tell_given_up(self, shards: Iterable[int]) -> None:
        for shard in shards:
            cause = self._attempts.outcome.failed[shard]
            log_event("shard given up", shard=shard, cause=cause)
            for listener in self._listeners:
                listener.failed(shard, cause)
