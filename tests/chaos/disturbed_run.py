"""The run that chaos disturbs: its command, and what of it must not change."""

import os
import signal
import time

from postmean.contract.image_store import ImageStore
from postmean.storage.open import open_storage
from tests.support.chaos import Chaos
from tests.support.seaweed import SeaweedServer

SEED = int(os.environ.get("POSTMEAN_CHAOS_SEED", "0")) or time.time_ns() % 10**9
TUPLES, RECORDS_PER_SHARD = 30_000, 32


def generation(store: ImageStore, out: object, actors: int) -> list[str]:
    run = [f"--store={store.path}", f"--tuples={TUPLES}", f"--out={out}", "--seed=3"]
    run += [f"--records-per-shard={RECORDS_PER_SHARD}", "--estimator=knn-stratified", "--k=64", "--m=64"]
    patience = ["--shard-seconds=15", "--start-seconds=60", "--attempts=9", f"--actors={actors}"]
    return ["generate", "edm-digits", *run, *patience]


def hit_server(chaos: Chaos, server: SeaweedServer, fault: str) -> None:
    if fault == "server pause":
        chaos.pause(server.signal)
    else:
        server.signal(signal.SIGKILL)
        chaos.wait()
        server.start()
    chaos.done[fault] += 1


def assert_equal(url: str, expected: dict[str, bytes]) -> None:
    """Every file of the run but those of drivers and trainers."""
    storage = open_storage(url)
    paths = [
        path for path in storage.list("") if not path.startswith(("config.json", "status.json", "leases/", "trainers/"))
    ]
    assert {path: storage.get(path) for path in paths} == expected
