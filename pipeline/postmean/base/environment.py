"""Settings from environment variables."""

import os


def cluster_address() -> str | None:
    """Address of the Ray cluster to run on (RAY_ADDRESS); None for an embedded one, which Ray calls `local`."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return None if address in ("", "local") else address
