import resource
import signal

import pytest

SECONDS = 30
MEGABYTES = 400


@pytest.fixture
def bounded():
    """The test ends within 30 s, and its memory grows by at most 400 MB: a hang fails it instead of the whole run."""

    def fail(*_):
        raise TimeoutError(f"still running after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, fail)
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started < MEGABYTES * 1000
