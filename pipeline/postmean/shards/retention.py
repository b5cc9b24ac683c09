"""Retention: shards that all trainers have consumed may be deleted. Their commit records stay as evidence.

OUT/deleted.json holds the number of deleted shards, counted from shard 0, and is sealed; it is written before anything
is deleted.
"""

import numpy as np

from postmean.base.errors import ShardError
from postmean.base.json_files import JsonError, parse_json, to_sealed_json, unsealed
from postmean.shards.run_folder import RunFolder
from postmean.shards.run_reader import RunReader

DELETED = "deleted.json"


def deleted_shards(run: RunReader) -> int:
    """Number n of deleted shards, which are 0 .. n - 1; some files may remain if the deletion was killed.

    Raises:
        ShardError: deleted.json is damaged.
    """
    if not run.reader.exists(DELETED):
        return 0
    try:
        count = unsealed(parse_json(run.reader.get(DELETED)))["shards"]
        if type(count) is int and 0 <= count <= len(run.read_plan()):
            return count
    except (JsonError, KeyError, TypeError):
        pass
    raise ShardError(
        f"{run.url}/{DELETED}: damaged: remove it and run the same `postmean generate` again: with --delete-consumed "
        "it writes it anew, from the positions of the trainers"
    )


def kept_shards(run: RunFolder) -> np.ndarray:
    """Shards that have a commit record, valid or not, and were not deleted, rising, int64 [n]: one listing.

    Raises:
        ShardError: deleted.json is damaged.
    """
    deleted = deleted_shards(run)
    return deleted + np.flatnonzero(run.listed()[deleted:])


def delete_shards(run: RunFolder, start: int, stop: int) -> None:
    """Delete the files of shards start .. stop - 1. All must be committed, and all earlier shards deleted already.

    Deleting twice is harmless.
    """
    if start == stop:
        return
    run.storage.put(DELETED, to_sealed_json({"shards": stop}))
    for shard in range(start, stop):
        for path in run.shard_paths(shard):
            run.storage.delete(path)
