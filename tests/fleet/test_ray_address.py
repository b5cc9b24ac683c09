"""A RAY_ADDRESS that leads nowhere is one line that names it, within a minute."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from postmean.base.environment import cluster_address
from postmean.fleet import ray_session

JOIN = """
from postmean.base.errors import PostmeanError
from postmean.fleet import ray_session
ray_session._JOIN_SECONDS = 2.0
try:
    with ray_session.ray_session(1, 0):
        print("joined")
except PostmeanError as error:
    print(f"{error.exit_code} {error}")
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers, as a frozen GCS does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def join(address: str) -> str:
    """What comes of it; the process must end by itself, although Ray still tries to connect."""
    environment = os.environ | {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "x"}
    done = subprocess.run([sys.executable, "-c", JOIN], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_a_server_that_does_not_answer_is_given_up(silent: str) -> None:
    said = join(silent)
    assert said.startswith(
        f"2 RAY_ADDRESS {silent}: cannot connect (no answer within 2 s): check that the cluster is up"
    )
    assert said.count("\n") == 1
    assert ray_session._JOIN_SECONDS <= 60


@pytest.mark.slow
@pytest.mark.parametrize(
    "address", ["nonsense", "no-such-host.invalid:6379", "127.0.0.1:99999", "auto", "ray://[::1]:9"]
)
def test_an_address_that_leads_nowhere_is_one_line(address: str) -> None:
    said = join(address)
    assert said.startswith(f"2 RAY_ADDRESS {address}: cannot connect (")
    assert said.count("\n") == 1


@pytest.mark.parametrize("address", ["", " ", "local"])
def test_what_means_no_cluster_is_an_embedded_ray(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert cluster_address() is None
