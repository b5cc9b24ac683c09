"""Trying again: exponential back-off with jitter until a deadline."""

import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

from postmean.base.errors import ConfigError

T = TypeVar("T")

DEADLINE = "POSTMEAN_STORAGE_DEADLINE"
"""Environment variable: seconds after which an operation on an object store is given up; default 300."""
_FIRST, _LONGEST = 0.2, 20.0  # seconds between attempts


class Transient(Exception):
    """A failure that may be gone the next time; the message says in a few words what it was."""


class GivenUp(Exception):
    """The deadline passed; the message is that of the last `Transient`."""


def deadline_seconds() -> float:
    """Seconds that one operation may take in all; ConfigError where the environment says nonsense."""
    text = os.environ.get(DEADLINE, "300")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise ConfigError(f"{DEADLINE}: expected seconds above 0, got {text!r}")
    return seconds


def retried(call: Callable[[int], T], seconds: float) -> T:
    """What `call(attempt)` returns the first time that it raises no `Transient`; every other exception passes.

    The pause doubles from 0.2 to 20 s; each is shortened at random by up to half, so that a fleet whose store
    comes back does not fall upon it all at once.

    Raises:
        GivenUp: no attempt begun within `seconds` succeeded.
    """
    until = time.monotonic() + seconds
    attempt, pause = 0, _FIRST
    while True:
        try:
            return call(attempt)
        except Transient as error:
            wait = pause * random.uniform(0.5, 1.0)
            if time.monotonic() + wait > until:
                raise GivenUp(str(error)) from None
        time.sleep(wait)
        attempt, pause = attempt + 1, min(2 * pause, _LONGEST)
