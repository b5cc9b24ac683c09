"""Whether a process that left a note about itself still runs, judged by any other process of the same machine."""

import os
import socket
from hashlib import sha256
from pathlib import Path


def this_machine() -> str:
    """Hash of the host, its boot and the namespace in which process ids are valid; "" where Linux does not tell."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
        return sha256(f"{socket.gethostname()} {_boot()} {namespace}".encode()).hexdigest()[:16]
    except OSError:
        return ""


def process_started(pid: int) -> int | None:
    """When a living process started, in ticks since boot; 0 if there is no such process, None if we may not see it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if _exists(pid) else 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def is_gone(machine: str, pid: int, started: int) -> bool:
    """Whether a process is known to have ended: it ran on this machine, and no process is it now.

    Args:
        machine: its `this_machine()`.
        started: its `process_started`: a later process with the same id started at another time.
    """
    return bool(machine) and machine == this_machine() and process_started(pid) not in (None, started)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:  # hidden in some sandboxes
        lines = Path("/proc/stat").read_text().splitlines()
        return next((line for line in lines if line.startswith("btime")), "")


def _exists(pid: int) -> bool:
    """Whether there is such a process, even if /proc hides it (hidepid)."""
    if pid <= 0:  # to the kernel, groups of processes
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
