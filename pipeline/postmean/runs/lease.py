"""The lease: one driver at a time on one output.

OUT/leases/000001.json says who drives the run and when the driver last renewed the lease. A driver renews it every few
seconds and removes it at its end. A lease that is no longer renewed is taken over by creating the lease with the next
number, which only one driver can do. A driver that finds a higher number than its own has lost the run and stops.

Correctness does not depend on the lease: commits are deterministic, so two drivers write the same bytes. It only avoids
duplicate work.
"""

import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal

from postmean.base.errors import GenerationError, PostmeanError, ShardError, StorageError
from postmean.base.json_files import JsonError, read_json, to_json
from postmean.base.processes import is_gone, process_started, this_machine
from postmean.storage.storage import Storage

LEASES = "leases"
EXPIRES_SECONDS = 60.0
"""A lease not renewed for this long may be taken over."""
_BEAT_SECONDS = 5.0
_LEAVE_SECONDS = 5.0
"""How long a run waits at its end for a storage that does not answer; after that its lease is left to expire."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lease; nothing secret."""

    token: str
    """Random; tells holders apart."""
    host: str
    pid: int
    machine: str
    """`this_machine` of the holder: where `pid` is valid; "" if unknown."""
    process_started: int
    """`process_started` of the holder; differs from that of a later process with the same pid."""
    heartbeat: float
    """Unix time of the last renewal, by the holder's clock."""

    @classmethod
    def this_process(cls) -> "Holder":
        """This process, as of now."""
        return cls(
            token=secrets.token_hex(8),
            host=socket.gethostname(),
            pid=os.getpid(),
            machine=this_machine(),
            process_started=process_started(os.getpid()) or 0,
            heartbeat=time.time(),
        )

    def state(self) -> Literal["held", "dead", "silent"]:
        """held: renewed lately. dead: its process ran on this machine and is gone. silent: not renewed for long."""
        if is_gone(self.machine, self.pid, self.process_started):
            return "dead"
        return "held" if abs(time.time() - self.heartbeat) < EXPIRES_SECONDS else "silent"

    def describe(self) -> str:
        """Host, process and last heartbeat, for people."""
        age = time.time() - self.heartbeat
        when = f"{abs(age):.0f} s {'ago' if age > -1 else 'ahead'}"
        if not -1 < age < EXPIRES_SECONDS:
            when += " by this machine's clock"  # the holder's clock may differ
        host = "".join(c for c in self.host[:64] if c.isprintable())  # the file may be damaged
        return f"host {host}, process {self.pid}, last heartbeat {when}"


def find_holder(storage: Storage) -> Holder | None:
    """The holder of the output, or the last one if it did not end cleanly; None if there is no readable lease."""
    return _newest(storage)[1]


def is_at_work(storage: Storage, holder: Holder, beat_seconds: float = _BEAT_SECONDS) -> bool:
    """Whether the holder drives the run, even if its clock and ours disagree.

    If it seems silent by the clocks, watch for two and a half beats whether its lease is renewed all the same.

    Args:
        beat_seconds: time between the holder's renewals.
    """
    state = holder.state()
    if state != "silent":
        return state == "held"
    until = time.monotonic() + 2.5 * beat_seconds
    while time.monotonic() < until:
        time.sleep(beat_seconds / 5)
        now = _newest(storage)[1]
        if now != holder:
            return now is not None  # None: it ended just now
    return False


def refuse_if_held(storage: Storage, command: str = "generate") -> None:
    """Raise GenerationError if another driver holds the output; writes nothing.

    Args:
        command: the command that drives such an output.
    """
    holder = find_holder(storage)
    if holder is not None and holder.state() == "held":
        raise _refusal(storage, holder, command)


class Lease:
    """Holds the output for the duration of a `with` block.

    Args:
        on_beat: called after each renewal, by the thread that renews.
        beat_seconds: time between renewals.
        command: the command that drives such an output.

    Raises:
        GenerationError: another driver holds it; the message says who, and when its lease expires.
    """

    def __init__(
        self,
        storage: Storage,
        on_beat: Callable[[], None] = lambda: None,
        beat_seconds: float = _BEAT_SECONDS,
        command: str = "generate",
    ) -> None:
        self._storage = storage
        self._on_beat, self._command = on_beat, command
        self._beat_seconds = beat_seconds
        self._stop = threading.Event()
        self._trouble: PostmeanError | None = None

    def __enter__(self) -> "Lease":
        self._holder = Holder.this_process()
        self._number = self._take()
        for path in self._storage.list(LEASES):
            if _number(path) < self._number:
                self._storage.delete(path)
        self._thread = threading.Thread(target=self._keep, name="postmean-lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        self._stop.set()
        self._thread.join(timeout=_LEAVE_SECONDS)

    def check(self) -> None:
        """Raise if this driver must stop: another one took over, or the storage cannot be reached."""
        if self._trouble is not None:
            raise self._trouble

    def _take(self) -> int:
        """Create the lease with the next number; returns the number."""
        for _ in range(100):
            number, holder = _newest(self._storage)
            if holder is not None and is_at_work(self._storage, holder, self._beat_seconds):
                raise _refusal(self._storage, holder, self._command)
            self._holder = replace(self._holder, heartbeat=time.time())
            if self._storage.create(_path(number + 1), to_json(self._holder)) and self._holds(number + 1):
                return number + 1
        raise GenerationError(f"{self._storage.url}/{LEASES}: others take the lease all the time: run it again later")

    def _keep(self) -> None:
        """Renew the lease until the end, then remove it; all in one thread, so that no late renewal restores it."""
        self._renew()
        if self._trouble is None:
            with suppress(GenerationError):  # it will expire
                if self._holds(self._number):
                    self._storage.delete(_path(self._number))

    def _holds(self, number: int) -> bool:
        """Whether this driver's lease with this number is there, not that of another one."""
        return self._is_own(_read(self._storage, number))

    def _is_own(self, holder: Holder | None) -> bool:
        """Whether this is our lease. A damaged one is nobody's: at our number we write ours again."""
        return holder is None or holder.token == self._holder.token

    def _renew(self) -> None:
        while not self._stop.wait(self._beat_seconds):
            try:
                number, other = _newest(self._storage)
                # the same number twice: storage that does not create exclusively; the one that wrote last goes on
                is_ours = number < self._number or (number == self._number and self._is_own(other))
                if not is_ours:
                    who = other.describe() if other is not None else "a damaged lease"
                    self._trouble = GenerationError(
                        f"{self._storage.url}: another `postmean {self._command}` took over ({who}), as this one had "
                        "not renewed its lease in time: it goes on there, nothing is lost"
                    )
                    return
                self._holder = replace(self._holder, heartbeat=time.time())
                self._storage.put(_path(self._number), to_json(self._holder))
                self._on_beat()
            except StorageError as error:
                self._trouble = error
            except PostmeanError:
                continue  # disk full: reported for the shards


def _newest(storage: Storage) -> tuple[int, Holder | None]:
    """Number and holder of the newest lease: number 0 if there is none, holder None if it cannot be read."""
    numbers = [number for path in storage.list(LEASES) if (number := _number(path))]
    if not numbers:
        return 0, None
    return max(numbers), _read(storage, max(numbers))


def _read(storage: Storage, number: int) -> Holder | None:
    """The holder of the lease with this number; None if it was removed just now or is damaged: nobody renews it."""
    path = _path(number)
    try:
        return read_json(Holder, storage.get(path), path)
    except (ShardError, JsonError):
        return None


def _refusal(storage: Storage, holder: Holder, command: str) -> GenerationError:
    age = time.time() - holder.heartbeat
    left = EXPIRES_SECONDS - age if 0 <= age < EXPIRES_SECONDS else EXPIRES_SECONDS  # else clocks disagree
    return GenerationError(
        f"{storage.url}: another `postmean {command}` is at work there ({holder.describe()}): wait for it or stop it; "
        f"if it is dead already, its lease expires in {left:.0f} s"
    )


def _path(number: int) -> str:
    return f"{LEASES}/{number:06d}.json"


def _number(path: str) -> int:
    name = re.fullmatch(rf"{LEASES}/([0-9]{{6,}})\.json", path)
    return int(name[1]) if name and _path(int(name[1])) == path else 0
