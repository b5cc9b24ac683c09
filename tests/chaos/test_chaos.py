"""Chaos (`make chaos`): at least two dozen random faults over a run, resumed each time with another number of actors.

In the end every byte is that of an undisturbed run. The seed is printed; POSTMEAN_CHAOS_SEED repeats it.
"""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from postmean.contract.image_store import ImageStore
from postmean.storage.open import open_storage
from tests.chaos.disturbed_run import SEED, assert_equal, generation, hit_server
from tests.support.chaos import Chaos
from tests.support.runs import files_of, postmean, start
from tests.support.seaweed import BUCKET, SeaweedServer

FAULTS = [
    *["actor kill"] * 4,
    *["actor freeze"] * 2,
    *["actor pause"] * 2,
    *["raylet kill"] * 2,
    *["raylet freeze"] * 2,
    *["gcs kill", "gcs freeze"],
    *["driver kill"] * 4,
    *["driver terminate"] * 3,
    *["driver pause"] * 2,
    *["server kill"] * 2,
    *["server pause"] * 2,
]
ENDS = {"raylet kill", "raylet freeze", "gcs kill", "gcs freeze", "driver kill", "driver terminate"}
"""Faults after which the command ends, or has nothing left to do it with."""


def wait_for_more(count: Callable[[], int], running: subprocess.Popen) -> None:
    """Wait until the count has grown, the command has ended, or two minutes have passed."""
    before, until = count(), time.monotonic() + 120
    while count() <= before and running.poll() is None and time.monotonic() < until:
        time.sleep(0.2)


@pytest.mark.slow
def test_a_run_under_random_faults_has_the_bytes_of_an_undisturbed_one(
    store: ImageStore, undisturbed: Path, server: SeaweedServer
) -> None:
    chaos = Chaos(SEED)
    expected = files_of(undisturbed)
    total = sum(path.startswith("commits/") for path in expected)
    faults, runs = [*FAULTS], [f"s3://{BUCKET}/run-0"]
    chaos.random.shuffle(faults)
    actors = 1

    def committed() -> int:
        return len(open_storage(runs[-1]).list("commits"))

    while faults:
        if committed() == total:
            runs.append(f"s3://{BUCKET}/run-{len(runs)}")
        actors = chaos.random.choice([n for n in (1, 2, 3) if n != actors])
        running = start(*generation(store, runs[-1], actors))
        chaos.lives += 1
        wait_for_more(committed, running)
        while faults and running.poll() is None:
            fault = faults.pop()
            if fault.startswith("server"):
                hit_server(chaos, server, fault)
            elif not chaos.hit(running, fault):
                faults.insert(0, fault)  # no victim just now
            if fault in ENDS:
                break
            chaos.wait()
        if running.poll() is None and chaos.random.random() < 0.7:
            running.kill()  # do not wait for what deadlines do
        early = -signal.SIGTERM  # a signal while Python starts or ends, when nothing handles it
        chaos.end(running, {0, 2, 3, 130, -signal.SIGKILL, early})
    for run in runs:
        done = postmean(*generation(store, run, 2))
        assert done.returncode == 0, done.stderr
        assert_equal(run, expected)
    print(f"\na run on an object store: {chaos.figures()}; {len(runs)} runs of {total} shards are byte for byte right")
    assert chaos.done.total() >= 24
