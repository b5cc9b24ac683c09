"""Training on a GPU, or on the stand-in for one, takes the steps that it takes on the CPU, and waits for none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from postmean.base.flags import with_flags
from postmean.contract.noise import ICTNoise
from postmean.training.checkpoint import find_checkpoint, load_denoiser
from postmean.training.presets import PRESETS
from tests.support.cuda_stand_in import COUNTS
from tests.support.exact_runs import make_run
from tests.support.small_training import BATCH, train
from tests.support.small_training import CONFIG as SMALL
from tests.support.stores import digits_store

STEPS = 3
CONFIG = with_flags(  # a student and a teacher
    PRESETS["ict-digits"],
    batch_size=BATCH,
    steps=STEPS,
    network=replace(SMALL.network, dropout=0.0),
    noise=ICTNoise(total_steps=STEPS, batch_size=BATCH, s0=4, s1=8),
)
# after a step, not in one: metrics, soundness and checkpoint
_BETWEEN = (
    "training/train_log.py",
    "training/checkpoint.py",
    "training/network_files.py",
    "training/training_state.py",
    "training/learner.py",
)


def test_steps_are_those_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    store = digits_store(tmp_path / "store", 50)
    make_run(tmp_path / "run", store, STEPS * BATCH, max_support=50, recipe=CONFIG.recipe)
    losses, weights = [], []
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        losses.append(train(CONFIG, tmp_path / "run", store.path, out, device=device).loss)
        network = load_denoiser(find_checkpoint(out)).network
        weights.append(torch.cat([parameter.flatten() for parameter in network.parameters()]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert torch.linalg.vector_norm(weights[1] - weights[0]) <= 1e-3 * torch.linalg.vector_norm(weights[0])
    waits = {line: count for line, count in COUNTS.syncs.items() if not line.startswith(_BETWEEN)}
    in_learner = sum(count for line, count in COUNTS.syncs.items() if line.startswith("training/learner.py"))
    assert not waits
    assert in_learner <= 4, "the check before the only checkpoint"


@pytest.mark.parametrize("economy", [dict(precision="fp16"), dict(channels_last=True, gradient_checkpointing=True)])
def test_steps_that_save_time_or_memory(tmp_path: Path, economy: dict[str, Any]) -> None:
    plain = replace(SMALL, steps=2, network=replace(SMALL.network, dropout=0.0))
    store = digits_store(tmp_path / "store", 20)
    make_run(tmp_path / "run", store, 2 * BATCH, max_support=20)
    losses = [
        train(each, tmp_path / "run", store.path, tmp_path / name, device=device).loss
        for name, each, device in (("plain", plain, "cpu"), ("saves", replace(plain, **economy), "cuda"))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
