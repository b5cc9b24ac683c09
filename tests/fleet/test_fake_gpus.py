"""One GPU an actor, by real Ray on nodes that claim GPUs: CUDA itself is not used."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from postmean.base.errors import ConfigError
from postmean.fleet.backlog import PlannedShards
from postmean.fleet.open_fleet import open_fleet
from postmean.fleet.settings import ActorSettings, FleetSettings
from postmean.runs.job import for_cluster
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from tests.support.listeners import Record
from tests.support.settings import generate_config

SHARDS = 8


class GPUProbe:
    """An actor whose shards are the GPUs that it sees."""

    def placed(self) -> None:
        pass

    def load(self) -> None:
        pass

    def make(self, shard: int) -> dict[str, Any]:
        time.sleep(0.2)  # the other actor gets shards too
        return {
            "shard": shard,
            "tuples": 1,
            "records": 1,
            "bytes": os.getpid(),
            "seconds": float(os.environ["CUDA_VISIBLE_DEVICES"]),
        }


class Placements(Record):
    """Keeps the GPUs of each actor, by process."""

    def __init__(self) -> None:
        super().__init__()
        self.gpus: dict[int, set[float]] = {}

    def made(self, shard: Any) -> None:
        super().made(shard)
        self.gpus.setdefault(shard["bytes"], set()).add(shard["seconds"])


def placements(settings: FleetSettings) -> dict[int, set[float]]:
    """GPUs of each actor of a run."""
    listener = Placements()
    with open_fleet(settings, ActorSettings(threads_per_actor=1, device="cuda"), GPUProbe, (), SHARDS) as fleet:
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
        fleet.make(PlannedShards(range(SHARDS)), listener)
    assert sorted(listener.done) == list(range(SHARDS)) and not listener.causes
    return listener.gpus


def test_each_actor_has_one_of_the_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setattr("postmean.fleet.open_fleet.usable_gpus", lambda: 2)
    with pytest.raises(ConfigError, match=r"--actors 3: each takes a GPU, and this process may use 2 \(see CUDA_VIS"):
        placements(FleetSettings(actors=3))
    gpus = placements(FleetSettings())
    assert sorted(map(sorted, gpus.values())) == [[4.0], [5.0]]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs or GPUs for actors."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_a_cluster_has_as_many_actors_as_gpus(cluster: Any, tmp_path: Path) -> None:
    config = generate_config(tmp_path, tmp_path / "run", tuples=1)
    cluster.add_node(num_cpus=2)
    assert for_cluster(config, None).actor.device == "cpu"
    for _ in range(2):
        cluster.add_node(num_cpus=8, num_gpus=2)
    run = RunFolder(open_storage(config.out))
    assert for_cluster(config, run).actor.device == "cuda"
    gpus = placements(FleetSettings())
    assert sorted(map(sorted, gpus.values())) == [[0.0], [0.0], [1.0], [1.0]]
