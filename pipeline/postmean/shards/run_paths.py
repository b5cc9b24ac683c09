"""Paths of a run's files, relative to its output, and the shard of a path."""

import re
from collections.abc import Callable

MANIFEST = "manifest.json"
PLAN = "plan.parquet"
CERTIFIED_SIGMA = "certified_sigma.npy"
COMMITS = "commits"
CONFIG = "config.json"
FAILURES = "failures"


def tar_path(shard: int) -> str:
    """The shard's file in WebDataset format."""
    return f"shards/{shard:06d}.tar"


def commit_path(shard: int) -> str:
    """The shard's commit record."""
    return f"{COMMITS}/{shard:06d}.json"


def failure_path(shard: int) -> str:
    """The record of why the shard was given up."""
    return f"{FAILURES}/{shard:06d}.json"


def shard_of_tar(path: str) -> int | None:
    """The shard whose tar this is; None for any other path."""
    return _shard_of(path, tar_path)


def shard_of_commit(path: str) -> int | None:
    """The shard whose commit record this is; None for any other path."""
    return _shard_of(path, commit_path)


def shard_of_failure(path: str) -> int | None:
    """The shard whose failure record this is; None for any other path."""
    return _shard_of(path, failure_path)


def _shard_of(path: str, path_of: Callable[[int], str]) -> int | None:
    number = re.fullmatch(r"[a-z]+/([0-9]{6,18})\.[a-z]+", path)
    shard = int(number[1]) if number else None
    return shard if shard is not None and path_of(shard) == path else None
