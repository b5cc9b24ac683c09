"""The ledger of attempts: what failed how often and why, what is tried again, and when the run makes no sense any more.

Decisions alone: no Ray, no clock, no input or output.
"""

from postmean.fleet.outcome import Outcome

_FAILURES_IN_A_ROW = 24
"""Failed attempts an actor, none in between that succeeded, after which the cause is taken to be everyone's: a full
disk, a damaged store. A run of a million shards must not try each of them."""
_LOST_ACTOR = 3  # failed attempts that a lost actor counts for: it takes seconds to replace, and its deadline to notice


class Attempts:
    """Keeps account of a run's shards, in `outcome` too.

    Args:
        most: times a shard is tried.
        actors: that the run has, at most.
    """

    def __init__(self, most: int, actors: int) -> None:
        self.outcome = Outcome()
        self._most = most
        self._failures_allowed = _FAILURES_IN_A_ROW * actors
        self._in_a_row = 0
        self._has_room = True
        self._causes: dict[int, list[str]] = {}  # of each failed attempt, by shard that is to be tried again

    def made(self, shard: int) -> None:
        """An attempt succeeded."""
        self.outcome.stopped_by = None
        self.outcome.done += 1
        self._in_a_row = 0
        self._causes.pop(shard, None)

    def failed(self, shard: int, cause: str, is_actor_lost: bool) -> bool:
        """An attempt failed; whether the shard is to be tried again. If not, it is given up."""
        self.outcome.stopped_by = None  # an actor did start
        self._in_a_row += _LOST_ACTOR if is_actor_lost else 1
        self._causes.setdefault(shard, []).append(cause)
        if len(self._causes[shard]) >= self._most:
            self._give_up(shard)
            return False
        self.outcome.retries += 1
        return True

    def start_failed(self, cause: str) -> None:
        """An actor was lost before it could take a shard."""
        self.outcome.stopped_by = cause
        self._in_a_row += _LOST_ACTOR

    def no_room(self, cause: str) -> None:
        """No actor found a place in time."""
        self.outcome.stopped_by = cause
        self._has_room = False

    @property
    def is_hopeless(self) -> bool:
        """Whether the run must stop: too many attempts in a row have failed, or there is no room."""
        return self._in_a_row >= self._failures_allowed or not self._has_room

    def stop(self, waiting: int, making: set[int]) -> list[int]:
        """The run ends before its time: give up the shards that were tried, and count the others.

        Args:
            waiting: how many shards wait; 0 where the backlog was closed.
            making: shards that are being made.
        Returns:
            the shards given up now, rising.
        """
        tried = self._causes.keys()  # and are to be tried again: failures
        self.outcome.untried = max(0, waiting - len(tried - making)) + len(making - tried)
        given_up = sorted(tried)
        for shard in given_up:
            self._give_up(shard)
        return given_up

    def _give_up(self, shard: int) -> None:
        self.outcome.failed[shard] = self._causes.pop(shard)[-1]
