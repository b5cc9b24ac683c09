"""The processes of an embedded Ray: those that write to files in its folder, whoever started them."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_END_SECONDS = 5.0


def end_processes(folder: str) -> None:
    """Kill every process of the Ray that keeps its logs in `folder`, frozen ones too, and wait until they are gone.

    Waits for at most a few seconds: a process that the kernel keeps in a system call ends later.
    """
    until = time.monotonic() + _END_SECONDS
    while (found := processes_of(folder)) and time.monotonic() < until:
        for pid in found:
            with suppress(OSError):  # it is gone
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def processes_of(folder: str) -> list[int]:
    """Living processes of this user that have a file below `folder` open for writing.

    Without this process and its forks, which share the files that Ray opened here.
    """
    folder, ours = os.path.realpath(folder), _command(Path("/proc/self"))
    return [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if _writes_below(process, folder) and _command(process) != ours
    ]


def _writes_below(process: Path, folder: str) -> bool:
    with suppress(OSError):  # it has ended, or it is another user's
        for file in (process / "fd").iterdir():
            if os.readlink(file).startswith(f"{folder}/"):
                flags = (process / "fdinfo" / file.name).read_text().split("flags:")[1].split()[0]
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    return False


def _command(process: Path) -> bytes:
    with suppress(OSError):
        return (process / "cmdline").read_bytes()
    return b""
