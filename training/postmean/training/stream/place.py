"""Where a stream is: how many batches it has given, alone or as one of several worker processes of a DataLoader."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch.utils.data import get_worker_info

from postmean.base.errors import ConfigError, MismatchError

_COUNTS = ("batch_size", "workers", "start_tuple", "taken")
"""Fields of a state beside `run`."""


@dataclass(frozen=True)
class Worker:
    """Process `number` of the `count` that share the batches of a stream: it gives every `count`-th one."""

    number: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> "Worker":
        """This process: a worker of a DataLoader, or the only one."""
        info = get_worker_info()
        return cls() if info is None else cls(info.id, info.num_workers)


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a worker has given: `taken` of its batches, of those from tuple `start` on.

    Worker w of W gives batches w, w + W, w + 2 W ... from `start`: a DataLoader, which asks its workers in turn, gives
    all batches in order.
    """

    start: int
    taken: int
    worker: Worker
    batch_size: int

    @property
    def next_tuple(self) -> int:
        """First tuple of the worker's next batch."""
        return self.start + (self.worker.number + self.taken * self.worker.count) * self.batch_size

    def moved(self) -> "Place":
        """The place after one more batch."""
        return Place(start=self.start, taken=self.taken + 1, worker=self.worker, batch_size=self.batch_size)

    def here(self) -> "Place":
        """The place in this process, to which a DataLoader may have copied the stream."""
        worker = Worker.here()
        if worker == self.worker:
            return self
        return Place(start=self.next_tuple, taken=0, worker=worker, batch_size=self.batch_size)

    def left(self, stop: int) -> range:
        """First tuples of the worker's batches that are left before tuple `stop`."""
        return range(self.next_tuple, stop, self.worker.count * self.batch_size)

    def to_state(self, run: str) -> dict[str, Any]:
        """The place as plain values.

        Args:
            run: the run's fingerprint.
        """
        return {
            "run": run,
            **dict(zip(_COUNTS, (self.batch_size, self.worker.count, self.start, self.taken), strict=True)),
        }


def from_state(state: Mapping[str, Any], run: str, tuples: range, where: str) -> Place:
    """The place that `to_state` wrote, in this process.

    Args:
        run: the run's fingerprint.
        tuples: first tuple of every batch of the stream.
        where: the run's URL.
    Raises:
        ConfigError: it is no such state, or one of another number of workers.
        MismatchError: it is of another run, batch size or part of the run.
    """
    batch_size, workers, start, taken = (_count(state, name, where) for name in _COUNTS)
    worker = Worker.here()
    if workers != worker.count:
        raise ConfigError(
            f"{where}: the state is of {workers} worker processes, here are {worker.count}: pass num_workers as before"
        )
    if state.get("run") != run:
        raise MismatchError(f"{where}: the state is of another run: open the targets that it was saved with")
    if batch_size != tuples.step:
        raise MismatchError(
            f"{where}: the state is of batch_size {batch_size}, this stream has {tuples.step}: pass the same"
        )
    place = Place(start=start, taken=taken, worker=worker, batch_size=batch_size)
    is_within = tuples.start <= start <= tuples.stop and (start - tuples.start) % batch_size == 0
    last = place.next_tuple - workers * batch_size
    if not is_within or (taken and last >= tuples.stop):
        raise MismatchError(
            f"{where}: the state is at tuple {place.next_tuple}, this stream has {tuples.start}..{tuples.stop - 1}: "
            "open it with an earlier start_tuple, or more steps"
        )
    return place


def _count(state: Mapping[str, Any], name: str, where: str) -> int:
    value = state.get(name)
    if type(value) is not int or value < 0:
        raise ConfigError(f"{where}: {name} of the state is {value!r}: pass what state_dict() of a TargetStream gave")
    return value
