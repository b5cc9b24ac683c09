"""One thread for the tiny networks of these tests: more threads only wait for each other."""

from collections.abc import Iterator

import pytest

from postmean.engine.process_setup import threads


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threads(1):
        yield
