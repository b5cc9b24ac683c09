"""Settings from environment variables."""

import os
from pathlib import Path

from postmean.base.errors import ConfigError
from postmean.base.paths import local_path

STORE_CACHE, STORE_CACHE_BYTES = "POSTMEAN_STORE_CACHE", "POSTMEAN_STORE_CACHE_BYTES"
"""The folder for copies of image stores at URLs, and the most bytes to keep there."""


def cluster_address() -> str | None:
    """Address of the Ray cluster to run on (RAY_ADDRESS); None for an embedded one, which Ray calls `local`."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return None if address in ("", "local") else address


def store_cache() -> Path:
    """The cache: POSTMEAN_STORE_CACHE, else postmean/stores in XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get(STORE_CACHE)
    if given:
        return local_path(given).absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    return (local_path(shared) if shared.startswith("/") else local_path("~/.cache")) / "postmean" / "stores"


def store_cache_bytes() -> int | None:
    """Most bytes to keep in the cache; None for as many as the disk holds. ConfigError if the variable is no number."""
    text = os.environ.get(STORE_CACHE_BYTES, "").strip()
    if not text:
        return None
    try:
        count = int(float(text))
    except (ValueError, OverflowError):
        count = 0
    if count < 1:
        raise ConfigError(f"{STORE_CACHE_BYTES}: expected a number of bytes such as 50e9, got {text!r}")
    return count


def store_cache_of_driver(cache: str | None) -> None:
    """Take the driver's POSTMEAN_STORE_CACHE, unless this node has its own."""
    if cache and STORE_CACHE not in os.environ:
        set_store_cache(cache)


def set_store_cache(folder: str | Path) -> None:
    """Move the cache of stores, for this process and those that it starts."""
    os.environ[STORE_CACHE] = str(local_path(folder).absolute())
