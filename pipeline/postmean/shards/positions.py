"""Positions: how far each trainer that follows a run is. OUT/trainers/NAME.json, written by the trainer alone."""

import re
from dataclasses import dataclass

from postmean.base.errors import ShardError
from postmean.base.json_files import JsonError, read_json, to_json
from postmean.storage.storage import Storage

TRAINERS = "trainers"


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far one trainer is."""

    next_tuple: int
    """First tuple of the batch that it takes next."""
    batch_size: int
    """Tuples of a batch, over all ranks."""
    resume_tuple: int
    """It never goes back before this one: that of its oldest checkpoint."""
    finished: bool
    """Whether it has taken all that it wanted."""


def write_position(storage: Storage, trainer: str, position: Position) -> None:
    """Replace what this trainer said before.

    Args:
        trainer: its name in this run, of letters, digits and hyphens.
    """
    storage.put(_path(trainer), to_json(position))


def read_positions(storage: Storage) -> dict[str, Position]:
    """Positions by trainer. A trainer whose file is damaged is at tuple 0 until it writes again: nothing is lost."""
    positions = {}
    for path in storage.list(TRAINERS):
        name = re.fullmatch(rf"{TRAINERS}/([A-Za-z0-9-]+)\.json", path)
        if name:
            positions[name[1]] = _read(storage, path)
    return positions


def _read(storage: Storage, path: str) -> Position:
    try:
        return read_json(Position, storage.get(path), path)
    except (ShardError, JsonError):
        return Position(next_tuple=0, batch_size=1, resume_tuple=0, finished=False)


def _path(trainer: str) -> str:
    return f"{TRAINERS}/{trainer}.json"
