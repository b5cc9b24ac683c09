"""Positions of the trainers that follow a run, in OUT/trainers/NAME.json. Only the trainer itself writes its file.

The files are sealed: by a digit that changed, generation would delete shards that a trainer still needs.
"""

import re
from dataclasses import dataclass

from postmean.base.errors import ShardError
from postmean.base.json_files import JsonError, read_sealed_json, to_sealed_json
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


def write_position(storage: Storage, trainer: str, position: Position) -> None:
    """Replace this trainer's position.

    Args:
        trainer: its name in this run, of letters, digits and hyphens.
    """
    storage.put(_path(trainer), to_sealed_json(position))


def read_positions(storage: Storage) -> dict[str, Position]:
    """Positions by trainer. A damaged file counts as tuple 0 until its trainer writes again, so no shard is lost."""
    positions = {}
    for path in storage.list(TRAINERS):
        name = re.fullmatch(rf"{TRAINERS}/([A-Za-z0-9-]+)\.json", path)
        if name:
            positions[name[1]] = _read(storage, path)
    return positions


def _read(storage: Storage, path: str) -> Position:
    try:
        return read_sealed_json(Position, storage.get(path), path)
    except (ShardError, JsonError):
        return Position(next_tuple=0, batch_size=1, resume_tuple=0, finished=False)


def _path(trainer: str) -> str:
    return f"{TRAINERS}/{trainer}.json"
