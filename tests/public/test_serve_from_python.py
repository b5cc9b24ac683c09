"""`serve` in a thread gives the targets of `generate` until it is told to stop, and then reports what it made."""

import threading
from pathlib import Path

import pytest
import torch

from postmean.pipeline import FleetSettings, GenerateConfig, ServeConfig, ServeReport, serve, with_flags
from postmean.training import TargetStream
from tests.support.runs import indexed_store, make_by_hand

pytestmark = pytest.mark.slow


def test_a_thread_serves_until_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow: it starts Ray."""
    monkeypatch.setenv("POSTMEAN_TOKEN_PATH", str(tmp_path / "token"))
    store = indexed_store(tmp_path / "store", 60)
    small = dict(records_per_shard=32, device="cpu", estimator="exact")
    job = ServeConfig(store=store.path, tuples=400, port=0, fleet=FleetSettings(actors=1))
    ports: list[int] = []
    ready, stop, reports = threading.Event(), threading.Event(), list[ServeReport]()

    def on_ready(port: int) -> None:
        ports.append(port)
        ready.set()

    def run() -> None:
        reports.append(serve(with_flags(job, **small), on_ready, progress=False, stop=stop))

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(300)
    with TargetStream.open(f"http://127.0.0.1:{ports[0]}", store, batch_size=50, follow_seconds=300) as stream:
        served = list(stream)
    stop.set()
    thread.join(300)
    assert reports[0].tuples == 400 and reports[0].retries == 0
    made = make_by_hand(with_flags(GenerateConfig(store=store.path, tuples=400, out=str(tmp_path / "run")), **small))
    assert reports[0].records_made == made.read_plan().total_records and reports[0].shards_made == len(made.read_plan())
    with TargetStream.open(tmp_path / "run", store, batch_size=50) as stream:
        for ours, theirs in zip(served, stream, strict=True):
            assert torch.equal(ours.mean, theirs.mean) and torch.equal(ours.ess, theirs.ess)
