"""Runs on an existing cluster of several nodes: real raylets on this machine."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import assert_one_line, commits_of, files_of, finish, start, wait_for_commits, wait_until

Expected = dict[str, dict[str, bytes]]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs for actors; nodes are added by the tests. RAY_ADDRESS names it."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


def test_nodes_die_and_join_and_the_bytes_are_the_same(
    cluster: Any, job: list[str], expected: Expected, tmp_path: Path
) -> None:
    first = cluster.add_node(num_cpus=1)
    running = start(*job, f"--out={tmp_path}", "--actors=3", "--json")
    wait_for_commits(tmp_path, 2, running)
    cluster.add_node(num_cpus=1)
    count = commits_of(tmp_path)
    cluster.remove_node(first, allow_graceful=False)
    wait_for_commits(tmp_path, count + 3, running)  # made by the node that joined
    done = finish(running)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["retries"] <= 3
    assert files_of(tmp_path) == expected["webdataset"]


@pytest.mark.slow
def test_without_a_node_left_the_run_ends_and_the_next_one_resumes(
    cluster: Any, job: list[str], expected: Expected, tmp_path: Path
) -> None:
    only = cluster.add_node(num_cpus=2)
    running = start(*job, f"--out={tmp_path}", "--start-seconds=45")
    wait_for_commits(tmp_path, 3, running)
    cluster.remove_node(only, allow_graceful=False)
    done = finish(running)
    assert done.returncode == 3
    assert "no room for an actor within 45 s" in done.stderr.splitlines()[-1]
    cluster.add_node(num_cpus=2)
    assert finish(start(*job, f"--out={tmp_path}")).returncode == 0
    assert files_of(tmp_path) == expected["webdataset"]


@pytest.mark.slow
def test_a_killed_driver_leaves_no_actor_and_the_next_one_resumes(
    cluster: Any, job: list[str], expected: Expected, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=2)
    running = start(*job, f"--out={tmp_path}")
    wait_for_commits(tmp_path, 3, running)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    wait_until(lambda: not estimator_actors(), "the driver's actors end with it")
    assert finish(start(*job, f"--out={tmp_path}")).returncode == 0
    assert files_of(tmp_path) == expected["webdataset"]


@pytest.mark.slow
def test_a_wrong_token_and_none_are_refused(
    cluster: Any, job: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    done = finish(start(*job, f"--out={tmp_path / 'wrong'}"))
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]  # Ray itself reports it many times in the lines above
    assert "cannot connect" in last and "RAY_AUTH_TOKEN_PATH holds its token" in last
    assert "0" * 64 not in done.stderr
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = finish(start(*job, f"--out={tmp_path / 'none'}"))
    assert done.returncode == 2
    assert_one_line(done.stderr, "no token for this cluster")


def estimator_actors() -> list[Path]:
    """Processes on this machine that are our actors."""
    return [
        path
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _title(path).startswith(b"ray::EstimatorActor")
    ]


def _title(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
