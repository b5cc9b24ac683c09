"""A GPU without room, or one that refuses a product, ends a run in one line with the remedy."""

import os
import sys
from pathlib import Path

import pytest

from postmean.cli.main import run
from postmean.contract.image_store import ImageStore
from tests.support.gpu_faults import CrowdedActor, RefusingActor
from tests.support.runs import without_progress


@pytest.mark.slow
@pytest.mark.parametrize(
    ("actor", "cause"),
    [
        (CrowdedActor, "capacity of 23.57 GiB: stop what else uses this GPU, pass --shards-at-a-time 1, or take a GPU"),
        (RefusingActor, "NVIDIA B300, torch 2"),
    ],
)
def test_the_last_line_of_a_run_names_the_remedy(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd, actor: type, cause: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Ray, and the driver, believe in a GPU
    monkeypatch.setattr("postmean.runs.job.usable_device", lambda asked: asked)
    monkeypatch.setattr("postmean.fleet.open_fleet.usable_gpus", lambda: 1)
    monkeypatch.setattr("postmean.runs.folder_driver.EstimatorActor", actor)
    monkeypatch.setattr("postmean.fleet.attempts._FAILURES_IN_A_ROW", 6)  # two actors, not eight
    arguments = [f"--store={store.path}", f"--out={tmp_path / 'run'}", "--tuples=600", "--device=cuda"]
    assert run("generate", ["edm-digits", *arguments]) == 3
    error = without_progress(capfd.readouterr().err)
    assert "Traceback" not in error
    last = error.splitlines()[-1]
    assert "shards were not tried, as no actor could start: " in last
    assert cause in last
    assert last.endswith("mend the cause and run the same command again")
