"""The network between driver and actors is cut in the middle of a run: real Ray nodes on two hosts, and a real cut.

The driver and Ray's head are on one host, a worker node on the other; both see the run's folder.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postmean.contract.image_store import ImageStore
from tests.support.runs import commits_of, files_of, finish, postmean, wait_for_commits, wait_until
from tests.support.two_hosts import Host, NotPermitted, two_hosts

pytestmark = pytest.mark.slow

Expected = dict[str, dict[str, bytes]]
ACTOR = "ray::EstimatorActor"
NOTICES_SOON = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}
"""Ray declares a node dead after about ten seconds of silence; by default, after more than a minute."""


class TwoHostCluster:
    """A Ray cluster of two nodes, and the commands that run on it."""

    def __init__(self, hosts: tuple[Host, Host], folder: Path) -> None:
        self.head, self.other = hosts
        self._folder = folder
        self._address = f"{self.head.address}:6379"
        self._environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_USAGE_STATS_ENABLED": "0"}

    def start(self, head_cpus: int, settings: dict[str, str]) -> None:
        """Start Ray on both hosts, with these settings of Ray."""
        self._environment |= settings
        flags = ("--head", "--port=6379", f"--num-cpus={head_cpus}", "--include-dashboard=false")
        node = self._start_node(self.head, *flags)
        started = self._folder / self.head.address / "ray_current_cluster"
        wait_until(lambda: started.exists() or node.poll() is not None, "the head is up")
        assert node.poll() is None, node.communicate()
        self.start_other()

    def start_other(self) -> None:
        """Start Ray on the other host, with room for one actor; it runs until it ends itself."""
        self.node = self._start_node(self.other, f"--address={self._address}", "--num-cpus=1")

    def postmean(self, *arguments: str) -> subprocess.Popen:
        """Start the command beside the head."""
        environment = self._environment | {"RAY_ADDRESS": self._address}
        return self.head.start(sys.executable, "-m", "postmean", *arguments, env=environment)

    def cut(self, running: subprocess.Popen, out: Path) -> None:
        """Cut the cable while the other host's actor makes shards."""
        wait_until(lambda: bool(self.other.processes(ACTOR)), "the other host has an actor")
        beside = self.head.processes(ACTOR)
        for actor in beside:
            os.kill(actor, signal.SIGSTOP)  # so that only the other host makes shards
        wait_for_commits(out, commits_of(out) + 3, running)
        self.other.ip("link set cable down")
        for actor in beside:
            os.kill(actor, signal.SIGCONT)

    def mend(self) -> None:
        """Reconnect the cable."""
        self.other.ip("link set cable up")

    def assert_no_actor_stays(self) -> None:
        """All actors end; those of the cut host once the network is back."""
        wait_until(lambda: not self.head.processes(ACTOR) + self.other.processes(ACTOR), "all actors end")
        assert not self.head.processes("-m postmean")

    def _start_node(self, host: Host, *flags: str) -> subprocess.Popen:
        folder = self._folder / host.address
        common = (f"--node-ip-address={host.address}", f"--temp-dir={folder}", "--object-store-memory=100000000")
        ray = (sys.executable, "-m", "ray.scripts.scripts")
        return host.start(*ray, "start", *flags, *common, "--block", env=self._environment)


@pytest.fixture
def cluster() -> Iterator[TwoHostCluster]:
    """Two hosts, Ray not started. Sockets need short paths, so it does not use the test's folder."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        try:
            with two_hosts() as hosts:
                yield TwoHostCluster(hosts, Path(folder))
        except NotPermitted as error:
            pytest.skip(f"no network namespaces: {error}")


def assert_is_whole(out: Path, store: ImageStore, expected: Expected) -> None:
    """The run has exactly the files of an undisturbed run, and verify finds no fault."""
    assert files_of(out) == expected["webdataset"]
    done = postmean("verify", out, f"--store={store.path}")
    assert done.returncode == 0, done.stderr


def test_a_network_that_comes_back_costs_time_alone(
    cluster: TwoHostCluster, job: list[str], store: ImageStore, expected: Expected, tmp_path: Path
) -> None:
    cluster.start(head_cpus=0, settings={})
    running = cluster.postmean(*job, f"--out={tmp_path}", "--json")
    cluster.cut(running, tmp_path)
    time.sleep(10)
    assert running.poll() is None
    cluster.mend()
    done = finish(running)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["retries"] == 0
    cluster.assert_no_actor_stays()
    assert_is_whole(tmp_path, store, expected)


@pytest.mark.parametrize(
    ("settings", "flags", "noticed"),
    [({}, ["--shard-seconds=8"], "by the shard's deadline"), (NOTICES_SOON, [], "by Ray")],
    ids=["deadline", "ray"],
)
def test_actors_on_this_side_finish_what_those_cut_off_had(
    cluster: TwoHostCluster,
    job: list[str],
    store: ImageStore,
    expected: Expected,
    tmp_path: Path,
    settings: dict[str, str],
    flags: list[str],
    noticed: str,
) -> None:
    cluster.start(head_cpus=1, settings=settings)
    running = cluster.postmean(*job, f"--out={tmp_path}", "--attempts=5", "--json", *flags)
    cluster.cut(running, tmp_path)
    done = finish(running)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["retries"] >= 1, noticed
    cluster.mend()
    cluster.assert_no_actor_stays()
    assert_is_whole(tmp_path, store, expected)


def test_without_an_actor_on_this_side_the_run_ends_and_the_next_one_resumes(
    cluster: TwoHostCluster, job: list[str], store: ImageStore, expected: Expected, tmp_path: Path
) -> None:
    cluster.start(head_cpus=0, settings=NOTICES_SOON)
    running = cluster.postmean(*job, f"--out={tmp_path}", "--start-seconds=20")
    cluster.cut(running, tmp_path)
    done = finish(running)
    assert done.returncode == 3
    assert "no room for an actor within 20 s" in done.stderr.splitlines()[-1]
    committed = commits_of(tmp_path)
    assert 0 < committed < len([path for path in expected["webdataset"] if path.startswith("commits/")])
    cluster.mend()
    wait_until(lambda: cluster.node.poll() is not None, "a node that was taken for dead ends itself")
    cluster.assert_no_actor_stays()
    cluster.start_other()
    done = finish(cluster.postmean(*job, f"--out={tmp_path}", "--json"))
    assert done.returncode == 0, done.stderr
    cluster.assert_no_actor_stays()
    assert_is_whole(tmp_path, store, expected)
