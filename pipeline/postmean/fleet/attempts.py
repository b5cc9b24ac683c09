"""The ledger of attempts: what failed how often and why, what is tried again, and when the run must stop.

Decisions only: no Ray, no clock, no I/O.
"""

from postmean.fleet.outcome import Outcome

_FAILURES_IN_A_ROW = 24
"""After this many failed attempts in a row per actor the run stops: the cause then concerns all shards, such as a full
disk or a damaged store, and a run of a million shards must not try each of them."""
_LOST_ACTOR = 3  # failed attempts that a lost actor counts as: noticing it may take a deadline, replacing it seconds


class Attempts:
    """Keeps account of a run's shards; `outcome` has the counts.

    Args:
        most: attempts per shard.
        actors: most actors that the run has.
    """

    def __init__(self, most: int, actors: int) -> None:
        self.outcome = Outcome()
        self._most = most
        self._failures_allowed = _FAILURES_IN_A_ROW * actors
        self._in_a_row = 0
        self._has_room = True
        self._causes: dict[int, list[str]] = {}  # of failed attempts, by shard that is to be tried again

    def made(self, shard: int) -> None:
        """An attempt succeeded."""
        self.outcome.stopped_by = None
        self.outcome.done += 1
        self._in_a_row = 0
        self._causes.pop(shard, None)

    def failed(self, shard: int, cause: str, is_actor_lost: bool) -> bool:
        """An attempt failed. Returns whether the shard is to be tried again; if not, it is given up."""
        self.outcome.stopped_by = None  # an actor did start
        self._in_a_row += _LOST_ACTOR if is_actor_lost else 1
        self._causes.setdefault(shard, []).append(cause)
        if len(self._causes[shard]) >= self._most:
            self._give_up(shard)
            return False
        self.outcome.retries += 1
        return True

    def has_failed(self, shard: int) -> bool:
        """Whether the shard has failed before and is tried again."""
        return shard in self._causes

    def start_failed(self, cause: str) -> None:
        """An actor was lost before it could take a shard."""
        self.outcome.stopped_by = cause
        self._in_a_row += _LOST_ACTOR

    def no_room(self, cause: str) -> None:
        """No actor found room in time."""
        self.outcome.stopped_by = cause
        self._has_room = False

    @property
    def is_hopeless(self) -> bool:
        """Whether the run must stop: too many attempts in a row have failed, or there is no room."""
        return self._in_a_row >= self._failures_allowed or not self._has_room

    def stop(self, waiting: int, making: set[int]) -> list[int]:
        """The run stops early: give up the shards that have failed before, and count the others as untried.

        Args:
            waiting: number of waiting shards; 0 if the backlog was closed.
            making: shards that are being made.
        Returns:
            the shards given up now, rising.
        """
        tried = self._causes.keys()  # failed before, and to be tried again
        self.outcome.untried = max(0, waiting - len(tried - making)) + len(making - tried)
        given_up = sorted(tried)
        for shard in given_up:
            self._give_up(shard)
        return given_up

    def _give_up(self, shard: int) -> None:
        self.outcome.failed[shard] = self._causes.pop(shard)[-1]
