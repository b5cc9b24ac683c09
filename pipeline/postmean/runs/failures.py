"""Failures: OUT/failures/NNNNNN.json says why a shard was given up, until it is made."""

from postmean.base.errors import ShardError
from postmean.base.json_files import JsonError, parse_json, to_json
from postmean.contract.plan import ShardPlan
from postmean.shards.run_paths import FAILURES, failure_path, shard_of_failure
from postmean.storage.storage import Storage


def write_failure(storage: Storage, row: ShardPlan, cause: str) -> None:
    """Record that the shard was given up."""
    failure = {"shard": row.shard, "first_tuple": row.first_tuple, "last_tuple": row.last_tuple, "cause": cause}
    storage.put(failure_path(row.shard), to_json(failure))


def remove_failure(storage: Storage, shard: int) -> None:
    """Remove the failure of a shard that was made after all."""
    storage.delete(failure_path(shard))


def failed_shards(storage: Storage) -> list[int]:
    """Shards that were given up, rising; some may have been committed since."""
    shards = [shard_of_failure(path) for path in storage.list(FAILURES)]
    return [shard for shard in shards if shard is not None]


def read_cause(storage: Storage, shard: int) -> str:
    """Why this shard was given up; "unknown" if the file is gone or damaged."""
    try:
        return str(parse_json(storage.get(failure_path(shard)))["cause"])
    except (ShardError, JsonError, KeyError, TypeError):
        return "unknown"
