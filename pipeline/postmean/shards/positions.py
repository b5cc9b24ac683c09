"""Positions of the trainers that follow a run, in OUT/trainers/NAME.json. Only the trainer itself writes its file."""

import re
from dataclasses import dataclass

from postmean.base.errors import MismatchError, ShardError
from postmean.base.json_files import JsonError, read_json, to_json
from postmean.storage.storage import Storage

TRAINERS = "trainers"


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far one trainer has come."""

    next_tuple: int
    """First tuple of the trainer's next batch."""
    batch_size: int
    """Tuples per batch, over all ranks."""
    resume_tuple: int
    """Tuple of the trainer's oldest checkpoint: it never goes back further."""
    finished: bool
    """Whether the trainer has taken all the tuples it wants."""

    def check(self, tuples: int, where: str) -> None:
        """Raise MismatchError if no trainer of a run can be there.

        Args:
            tuples: of the run.
            where: the position's file, for the message.
        """
        if self.batch_size < 1:
            problem = f"batch_size {self.batch_size}, expected 1 or more"
        elif not 0 <= self.resume_tuple <= self.next_tuple:
            problem = f"resume_tuple {self.resume_tuple}, expected 0 to next_tuple {self.next_tuple}"
        elif self.next_tuple > tuples:
            problem = f"next_tuple {self.next_tuple}, but the run has {tuples} tuples"
        else:
            return
        raise impossible(where, problem)


def impossible(where: str, problem: str) -> MismatchError:
    """The error for a position that no trainer of the run can have."""
    return MismatchError(f"{where}: {problem}: no shard is deleted for it: remove the file, its trainer writes another")


def write_position(storage: Storage, trainer: str, position: Position) -> None:
    """Replace this trainer's position.

    Args:
        trainer: its name in this run, of letters, digits and hyphens.
    """
    storage.put(_path(trainer), to_json(position))


def read_positions(storage: Storage) -> dict[str, Position]:
    """Positions by trainer. A damaged file counts as tuple 0 until its trainer writes again, so no shard is lost."""
    positions = {}
    for path in storage.list(TRAINERS):
        name = re.fullmatch(rf"{TRAINERS}/([A-Za-z0-9-]+)\.json", path)
        if name:
            positions[name[1]] = _read(storage, path)
    return positions


def position_file(storage: Storage, trainer: str) -> str:
    """Where this trainer's position is, for messages."""
    return f"{storage.url}/{_path(trainer)}"


def _read(storage: Storage, path: str) -> Position:
    try:
        return read_json(Position, storage.get(path), path)
    except (ShardError, JsonError):
        return Position(next_tuple=0, batch_size=1, resume_tuple=0, finished=False)


def _path(trainer: str) -> str:
    return f"{TRAINERS}/{trainer}.json"
