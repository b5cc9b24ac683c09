"""Runs for the tests of the fleet and the command line: tiny stores, the real command, and runs made without Ray."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from postmean.cli.index import run as index
from postmean.contract.image_store import ImageStore
from postmean.engine.process_setup import threads
from postmean.estimators.replica import Replica
from postmean.runs.config import GenerateConfig
from postmean.runs.job import prepare
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from tests.support.stores import digits_store

PATIENCE = 500
"""Seconds after which a test gives up. It only guards against hangs and decides no result."""

ACTORS = ("ray::EstimatorActor", "ray::IndexActor")
"""How the titles of actors' processes begin."""


def indexed_store(path: Path, images: int) -> ImageStore:
    """A store with every self-join that a run may ask for."""
    store = digits_store(path, images)
    for flags in ([], ["--flips"], ["--conditional"], ["--flips", "--conditional"]):
        assert index([str(path), *flags]) == 0
    return store


def make_by_hand(config: GenerateConfig, *copies: GenerateConfig) -> RunFolder:
    """Make the run of these settings shard by shard with one replica in this process: no Ray, no actors.

    Args:
        copies: settings that differ only in format and out: the same records are written there too.
    """
    runs = [RunFolder(open_storage(c.out)) for c in (config, *copies)]
    jobs = [prepare(c, run) for c, run in zip((config, *copies), runs, strict=True)]
    for job, run in zip(jobs, runs, strict=True):
        job.begin(run)
    job = jobs[0]
    with threads(1):  # like an actor: the last bit of sums depends on the number of threads
        replica = Replica(job.manifest, job.store, job.certified_sigma)
        for row in (job.plan[shard] for shard in range(len(job.plan))):
            records = replica.records(row)
            for run in runs:
                run.commit_shard(row, records)
    return runs[0]


def files_of(folder: Path | str) -> dict[str, bytes]:
    """Every file of a run by relative path, hidden ones included.

    Without config.json, which names paths, and without the status of drivers.
    """
    found = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    return {path: data for path, data in found.items() if not path.startswith(("config.json", "status.json", "leases"))}


def start(*arguments: object) -> subprocess.Popen:
    """Start the real command in its own process group."""
    return subprocess.Popen(
        [sys.executable, "-m", "postmean", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> subprocess.CompletedProcess:
    """Wait for the command's end, and check what holds for every call: no traceback."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert "Traceback" not in out + err, out + err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def postmean(*arguments: object) -> subprocess.CompletedProcess:
    """Run the command to its end."""
    return finish(start(*arguments))


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.01)


def wait_for_commits(out: Path, count: int, process: subprocess.Popen) -> None:
    """Wait until the run has `count` commit records, while the command runs."""

    def reached() -> bool:
        assert process.poll() is None, process.communicate()
        return commits_of(out) >= count

    wait_until(reached, f"{count} commits")


def commits_of(out: Path) -> int:
    """Commit records of the run so far."""
    commits = out / "commits"
    return sum(path.suffix == ".json" for path in commits.iterdir()) if commits.is_dir() else 0


def descendants(pid: int) -> dict[int, str]:
    """Titles of the living descendants of `pid`, by process id."""
    parents, titles = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(folder.name)] = int(parent)
                    titles[int(folder.name)] = (
                        (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    )
    found: dict[int, str] = {}
    fringe = {pid}
    while fringe:
        fringe = {child for child, parent in parents.items() if parent in fringe}
        found |= {child: titles[child] for child in fringe}
    return found


def actors_of(process: subprocess.Popen) -> list[int]:
    """Process ids of the command's actors, in the order of their start."""
    return sorted(pid for pid, title in descendants(process.pid).items() if title.startswith(ACTORS))


def is_alive(pid: int) -> bool:
    """Whether the process runs: it exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def can_import(module: str) -> bool:
    """Whether the module can be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def without_progress(text: str) -> str:
    """The text without progress lines and without Ray's lines about dead workers."""
    noise = re.compile(r"[a-z0-9 -]+: +[0-9.]+%  |.*\(raylet\)")
    return "".join(line for line in text.splitlines(keepends=True) if not noise.match(line))


def assert_one_line(text: str, *parts: str) -> None:
    """The text is one line with each of these parts. Progress lines, which slow machines show, do not count."""
    text = without_progress(text)
    assert text.endswith("\n") and text.count("\n") == 1, text
    for part in parts:
        assert part in text, text
