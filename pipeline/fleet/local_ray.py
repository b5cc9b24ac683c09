"""An embedded Ray on this machine: nothing to start by hand, token authentication on, gone with the command."""

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from pipeline.contract.errors import ConfigError
from pipeline.fleet.actor import EstimatorActor


@contextmanager
def local_ray(cpus: int, gpus: int) -> Iterator[None]:
    """Start Ray for the duration of the block, with room for the fleet."""
    _secure_environment()
    import ray

    with redirect_stdout(sys.stderr):  # Ray prints what happens to its workers to stdout, which is for the report
        try:
            before = signal.getsignal(signal.SIGTERM)
            ray.init(
                address="local",
                num_cpus=cpus,
                num_gpus=gpus,
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                configure_logging=True,
            )
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray's own handler exits without a word
            yield
        finally:
            ray.shutdown()


def _secure_environment() -> None:
    """Ray reads these once, when it is imported."""
    if "ray" in sys.modules and os.environ.get("RAY_AUTH_MODE") != "token":
        raise ConfigError(
            "ray was imported before postmean could switch its token authentication on: "
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN in the environment, or import ray later"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        # of this one embedded cluster; its processes inherit it, no file holds it
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def start_actor(out: str, store: str, cpus: int, gpus: int) -> Any:
    """Start one estimator actor and return its handle."""
    import ray

    options: dict[str, Any] = {
        "num_cpus": cpus,
        "num_gpus": gpus,
        "max_restarts": 0,  # the dispatcher replaces actors itself: it knows what they were doing
        "max_task_retries": 0,
    }
    return ray.remote(EstimatorActor).options(**options).remote(out, store)
