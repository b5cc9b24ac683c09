"""Ray for the duration of a run: the cluster that RAY_ADDRESS names, or an embedded one that ends with the command.

Token authentication is on in both unless RAY_AUTH_MODE says otherwise. RAY_ADDRESS is Ray's own variable:
`ray job submit` and KubeRay's RayJob set it for their programs; set it yourself to join a cluster by hand.
"""

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from postmean.base.environment import cluster_address
from postmean.base.errors import ConfigError
from postmean.base.extras import needs
from postmean.fleet.ray_folder import ray_folder

_TOKEN_FILE = Path.home() / ".ray" / "auth_token"  # where Ray itself looks last


@contextmanager
def ray_session(cpus: int, gpus: int) -> Iterator[None]:
    """Connect to the cluster at RAY_ADDRESS, or start Ray here with `cpus` CPUs and `gpus` GPUs.

    Raises:
        ConfigError: the cluster cannot be reached or refuses the token, there is no token for it, Ray is not installed
            or was imported too early, or the folder for Ray's files cannot be made.
    """
    address = cluster_address()
    _secure_environment(address)
    with needs("generate"):
        import ray
        from ray.exceptions import RayError

    with (
        ray_folder() if address is None else nullcontext() as folder,
        redirect_stdout(sys.stderr),  # Ray prints messages about its workers to stdout, which is for the report
    ):
        options: dict[str, Any] = {"address": address}
        if address is None:
            options = {"address": "local", "num_cpus": cpus, "num_gpus": gpus, "include_dashboard": False}
            options["_temp_dir"] = folder
        try:
            before = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(**options, logging_level=logging.ERROR, log_to_driver=False, configure_logging=True)
            except (ConnectionError, RuntimeError, ValueError, RayError) as error:
                if address is None:
                    raise
                line = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ConfigError(
                    f"RAY_ADDRESS {address}: cannot connect ({line}): check that the cluster is up and that "
                    "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH holds its token"
                ) from error
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray's own handler exits silently
            yield
        finally:
            ray.shutdown()


def actors_that_fit(cpus: int, gpus: int) -> int:
    """Total number of actors that the connected cluster has room for, at least 1."""
    import ray

    have = ray.cluster_resources()
    by_gpu = int(have.get("GPU", 0)) // gpus if gpus else sys.maxsize
    return max(1, min(int(have.get("CPU", 0)) // cpus, by_gpu))


def _secure_environment(address: str | None) -> None:
    """Set the environment variables that Ray reads once, when it is imported."""
    mode = os.environ.get("RAY_AUTH_MODE")
    if "ray" in sys.modules and (mode is None or (address is None and mode != "token")):
        raise ConfigError(
            "ray was imported before postmean could switch its token authentication on: "
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN in the environment, or import ray later"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    if address is None:
        # for this embedded cluster only: its processes inherit it, no file holds it
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif os.environ["RAY_AUTH_MODE"] == "token" and not _TOKEN_FILE.is_file():
        raise ConfigError(
            f"RAY_ADDRESS {address}: no token for this cluster: set RAY_AUTH_TOKEN_PATH to a file that holds it, "
            "or RAY_AUTH_MODE=disabled for a cluster without authentication"
        )
