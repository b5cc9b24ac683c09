"""`ray job submit`: a generation as a job of a head whose dashboard asks for the token of a private file."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.runs import PATIENCE, can_import, descendants, files_of, free_port, is_alive, wait_until

pytestmark = pytest.mark.slow

Expected = dict[str, dict[str, bytes]]
DASHBOARD = ("aiohttp_cors", "opencensus", "opentelemetry.exporter.prometheus", "prometheus_client")
"""Modules of ray[default] that Ray's dashboard imports."""
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


class Head:
    """A head node on this machine alone."""

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_hex(32)
        self.url = f"http://127.0.0.1:{free_port()}"
        file = folder / "token"
        file.touch(mode=0o600)
        file.write_text(self.token)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(file),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        flags = {
            "node-ip-address": "127.0.0.1",
            "port": free_port(),
            "num-cpus": 2,
            "dashboard-port": self.url.rpartition(":")[2],
            "dashboard-agent-listen-port": free_port(),
            "ray-client-server-port": free_port(),
            "object-store-memory": 100_000_000,
            "temp-dir": folder / "ray",
        }
        self.process = subprocess.Popen(
            [*RAY, "start", "--head", "--block", *(f"--{name}={value}" for name, value in flags.items())],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self) -> None:
        """Wait until the dashboard answers."""
        request = urllib.request.Request(f"{self.url}/api/version", headers={"Authorization": f"Bearer {self.token}"})

        def answers() -> bool:
            assert self.process.poll() is None, "the head ended"
            with suppress(OSError):
                return urllib.request.urlopen(request, timeout=60).status == 200
            return False

        wait_until(answers, "the dashboard answers")

    def submit(self, *arguments: str, token: Path | None = None) -> subprocess.CompletedProcess:
        """Submit the command as a job and wait for its end."""
        environment = self.environment | ({"RAY_AUTH_TOKEN_PATH": str(token)} if token else {})
        entrypoint = [sys.executable, "-m", "postmean", *arguments]
        return subprocess.run(
            [*RAY, "job", "submit", f"--address={self.url}", "--", *entrypoint],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def stop(self) -> None:
        """Stop the head with all its processes."""
        started = descendants(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        for pid in (self.process.pid, *started):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not any(map(is_alive, started)), "all that the head started ends")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """The head. Ray's sockets need short paths, so it does not use the tests' folder."""
    if missing := [module for module in DASHBOARD if not can_import(module)]:
        pytest.skip(f"no {', '.join(missing)}: jobs need ray[default]: pip install -e '.[cluster]'")
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        head = Head(Path(folder))
        try:
            head.wait()
            yield head
        finally:
            head.stop()


def test_a_generation_as_a_job_makes_the_same_bytes(
    head: Head, job: list[str], expected: Expected, tmp_path: Path
) -> None:
    done = head.submit(*job, f"--out={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{tmp_path}: wrote" in done.stdout
    assert head.token not in done.stdout + done.stderr
    assert files_of(tmp_path) == expected["webdataset"]


def test_a_generation_that_is_refused_is_a_failed_job(head: Head, job: list[str], tmp_path: Path) -> None:
    done = head.submit(*job, f"--out={tmp_path}", "--tolerance=2")
    assert done.returncode != 0
    assert "--tolerance: expected a mean squared error in [1e-07, 1), got 2" in done.stdout
    assert not list(tmp_path.iterdir())


def test_who_has_another_token_or_none_submits_nothing(head: Head, job: list[str], tmp_path: Path) -> None:
    other = tmp_path / "token"
    other.touch(mode=0o600)
    other.write_text("0" * 64)
    done = head.submit(*job, f"--out={tmp_path / 'out'}", token=other)
    assert done.returncode != 0
    assert "Invalid authentication token" in done.stderr
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{head.url}/api/jobs/", timeout=60)
    assert refused.value.code == 401
    assert not (tmp_path / "out").exists()
