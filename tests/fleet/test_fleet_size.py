"""How many actors a machine gets, and how many it may be asked for."""

import os
from collections.abc import Iterator

import pytest
import torch

from postmean.base.errors import ConfigError
from postmean.fleet.open_fleet import fleet_size


@pytest.fixture
def one_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(before)])
    yield
    os.sched_setaffinity(0, before)


def test_one_actor_on_one_usable_core(one_core: None) -> None:
    assert fleet_size(None, "cpu", 1) == fleet_size(None, "cpu", 3) == 1
    assert fleet_size(7, "cpu", 1) == 7, "as many as asked for"


@pytest.fixture(params=[("0", 1), ("0,1", 2), ("MIG-a,MIG-b,MIG-c", 3), ("", 0)])
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """GPUs that torch reports for this CUDA_VISIBLE_DEVICES; of partitioned ones it reports the first."""
    visible, count = request.param
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1 if "MIG" in visible else count)
    return count


def test_more_actors_than_gpus_are_refused_by_name(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert fleet_size(None, "cuda", 1) == max(1, gpus)
    if gpus:
        assert fleet_size(gpus, "cuda", 1) == gpus
    with pytest.raises(ConfigError, match=rf"--actors {gpus + 1}: .* may use {gpus} \(see CUDA_VISIBLE_DEVICES\)"):
        fleet_size(gpus + 1, "cuda", 1)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert fleet_size(gpus + 1, "cuda", 1) == gpus + 1, "the cluster's GPUs are elsewhere"
