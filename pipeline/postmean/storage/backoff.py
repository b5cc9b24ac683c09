"""Retries: exponential back-off with jitter until a deadline.

tenacity would save none of these lines: this pause, the attempt's number and the deadline would each be a class or
callback of ours, and it would be one more package of the core.
"""

import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

from postmean.base.errors import ConfigError

T = TypeVar("T")

DEADLINE = "POSTMEAN_STORAGE_DEADLINE"
"""Environment variable: seconds after which an operation on an object store gives up; default 300."""
_FIRST, _LONGEST = 0.2, 20.0  # seconds between attempts


class Transient(Exception):
    """A failure that a retry may fix; the message describes it in a few words."""


class GivenUp(Exception):
    """The deadline passed; the message is the last `Transient`'s."""


def deadline_seconds() -> float:
    """Seconds that one operation may take in total; ConfigError if the variable is no number in (0, 1e6)."""
    text = os.environ.get(DEADLINE, "300")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise ConfigError(f"{DEADLINE}: expected seconds above 0, got {text!r}")
    return seconds


def retried(call: Callable[[int], T], seconds: float) -> T:
    """Call `call(attempt)`, attempt = 0, 1, .., until it raises no `Transient`; other exceptions propagate.

    The pause between attempts doubles from 0.2 to 20 s. Each is shortened at random by up to half, so that a fleet
    does not send all its requests at once when the store is back.

    Raises:
        GivenUp: no attempt that began within `seconds` succeeded.
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
