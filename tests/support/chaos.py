"""Chaos: random faults of real processes, in an order that its seed repeats.

A fault kills a process, freezes it for good or pauses it. What it hits, when and in which order is random; that every
fault of a list happens is not.
"""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from tests.support.runs import PATIENCE, actors_of, descendants

KILL, FREEZE, TERM = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM
_PAUSE_SECONDS = (0.5, 3.0)
_BETWEEN_SECONDS = (0.2, 2.5)


class Chaos:
    """Draws faults and counts them.

    Args:
        seed: of the order, the victims and the waits.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.done: Counter[str] = Counter()
        """Faults that happened, by name."""
        self.lives = 0
        """Commands that were started."""
        self._began = time.monotonic()

    def wait(self) -> None:
        """Let the processes work for a moment."""
        time.sleep(self.random.uniform(*_BETWEEN_SECONDS))

    def pause(self, send: Callable[[signal.Signals], None]) -> None:
        """Stop a process for a moment."""
        send(signal.SIGSTOP)
        time.sleep(self.random.uniform(*_PAUSE_SECONDS))
        send(signal.SIGCONT)

    def hit(self, running: subprocess.Popen, fault: str) -> bool:
        """Do one fault to a command or to a process below it: `VICTIM VERB`. Returns whether there was a victim.

        Victims are driver or trainer (the command itself), raylet, gcs and actor.
        Verbs are kill, freeze, pause and terminate.
        """
        victim, verb = fault.split()
        if victim in {"driver", "trainer"}:
            pids = [running.pid] if running.poll() is None else []
        elif victim == "actor":
            pids = actors_of(running)
        else:
            pids = [pid for pid, title in descendants(running.pid).items() if TITLES[victim] in title]
        if not pids:
            return False
        pid = self.random.choice(pids)
        with suppress(ProcessLookupError):
            if verb == "pause":
                self.pause(lambda number: os.kill(pid, number))
            else:
                os.kill(pid, {"kill": KILL, "freeze": FREEZE, "terminate": TERM}[verb])
            self.done[fault] += 1
            return True
        return False

    def end(self, running: subprocess.Popen, codes: set[int]) -> None:
        """Wait for the command's own end, whose exit code must be one of these; no traceback."""
        out, err = running.communicate(timeout=PATIENCE)
        assert "Traceback" not in out + err, out + err
        assert running.returncode in codes, (running.returncode, err)

    def figures(self) -> str:
        """What was done, in one line."""
        faults = ", ".join(f"{count} × {name}" for name, count in sorted(self.done.items()))
        seconds = time.monotonic() - self._began
        return f"{self.done.total()} faults in {self.lives} lives, {seconds:.0f} s, seed {self.seed}: {faults}"


TITLES = {"raylet": "/raylet/raylet", "gcs": "gcs_server"}
