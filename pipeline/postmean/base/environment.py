"""What the environment variables of a process say."""

import os


def cluster_address() -> str | None:
    """The cluster to run on, None for an embedded one."""
    return os.environ.get("RAY_ADDRESS") or None
