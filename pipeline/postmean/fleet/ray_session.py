"""Ray for the duration of a run: the cluster that RAY_ADDRESS names, or an embedded one that ends with the command.

RAY_ADDRESS is Ray's own variable: `ray job submit` and KubeRay's RayJob set it for their programs; set it yourself to
join a cluster by hand.
"""

import atexit
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any, Literal

from postmean.base.environment import cluster_address
from postmean.base.errors import ConfigError, GenerationError
from postmean.base.extras import needs
from postmean.fleet import ray_token
from postmean.fleet.ray_folder import ray_folder
from postmean.fleet.ray_processes import end_processes
from postmean.fleet.ray_thread import RayHangs, RayThread

_JOIN_SECONDS = 60.0
"""Deadline for a cluster to answer; Ray itself tries for a quarter of an hour."""
_START_SECONDS = 120.0
"""Deadline for an embedded Ray to start, which takes six seconds where nothing else runs."""
_LEAVE_SECONDS = 15.0


@contextmanager
def ray_session(cpus: int, gpus: int) -> Iterator[RayThread]:
    """Connect to the cluster at RAY_ADDRESS, or start Ray here with `cpus` CPUs and `gpus` GPUs.

    Yields the thread in which all of Ray's calls must run. At the end nothing of an embedded Ray still runs, even if it
    hangs.

    Raises:
        ConfigError: the cluster cannot be reached or refuses the token, there is no token for it, Ray is not installed,
            was imported too early or runs in this process already, or the folder for Ray's files cannot be made.
        GenerationError: the embedded Ray did not start.
    """
    address = cluster_address()
    ray_token.switch_on(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
    # of calls that a run which stops no longer asks about: Ray would print their tracebacks
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    with needs("generate"):
        import ray
    if ray.is_initialized():
        raise ConfigError("this process uses Ray already: call ray.shutdown() first")
    with (
        ray_folder() if address is None else nullcontext() as folder,
        redirect_stdout(sys.stderr),  # Ray prints messages about its workers to stdout, which is for the report
    ):
        thread = RayThread()
        try:
            if folder is None:
                _join(thread, str(address))
            else:
                _start(thread, cpus, gpus, folder)
            yield thread
        finally:
            _leave(thread, folder)


def node_resources(thread: RayThread) -> list[dict[str, float]]:
    """Resources of each living node of the connected cluster: CPU, GPU, memory in bytes, and others."""
    import ray

    return [node["Resources"] for node in thread.ask(ray.nodes) if node["Alive"]]


def cluster_device() -> Literal["cpu", "cuda"]:
    """cuda if the present nodes of the cluster at RAY_ADDRESS have GPUs; raises ConfigError like `ray_session`."""
    with ray_session(0, 0) as thread:
        import ray

        return "cuda" if thread.ask(ray.cluster_resources).get("GPU", 0) >= 1 else "cpu"


def _join(thread: RayThread, address: str) -> None:
    from ray.exceptions import RayError

    try:
        thread.ask(lambda: _init(address=address), _JOIN_SECONDS)
    except (ConnectionError, RuntimeError, ValueError, RayError, RayHangs) as error:
        line = f"no answer within {_JOIN_SECONDS:g} s" if isinstance(error, RayHangs) else _first_line(error)
        raise ConfigError(
            f"RAY_ADDRESS {address}: cannot connect ({line}): check that the cluster is up and that RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH holds its token, or unset RAY_ADDRESS to run on this machine alone"
        ) from error


def _start(thread: RayThread, cpus: int, gpus: int, folder: str) -> None:
    options: dict[str, Any] = {"address": "local", "num_cpus": cpus, "num_gpus": gpus, "_temp_dir": folder}
    try:
        thread.ask(lambda: _init(include_dashboard=False, **options), _START_SECONDS)
    except Exception as error:
        line = f"no answer within {_START_SECONDS:g} s" if isinstance(error, RayHangs) else _first_line(error)
        raise GenerationError(
            f"Ray did not start on this machine ({line}): check what else runs here, its memory, its disk, /dev/shm, "
            "the network interface lo and the limits of processes and open files, and run the same command again"
        ) from error


def _init(**options: Any) -> None:
    import ray

    ray.init(**options, logging_level=logging.ERROR, log_to_driver=False, configure_logging=True)


def _leave(thread: RayThread, folder: str | None) -> None:
    import ray

    try:
        thread.ask(ray.shutdown, _LEAVE_SECONDS)
    except BaseException as error:
        atexit.unregister(ray.shutdown)  # it would hang again
        if not isinstance(error, RayHangs):
            raise
    finally:
        if folder is not None:
            end_processes(folder)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
