"""Two processes under torchrun take the steps that one process takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import digits_store, make_run

from pipeline.contract.noise import ICTNoise

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("preset", ["edm-digits", "ict-digits"])
def test_two_ranks_train_as_one(tmp_path, preset):
    noise = ICTNoise(batch_size=16, total_steps=4, s1=20)
    store = digits_store(tmp_path / "store", 60)
    settings = dict(solver="heun", noise=noise) if preset == "ict-digits" else {}
    make_run(tmp_path / "run", store, 64, max_support=60, **settings)
    flags = ["--noise.batch-size", "16", "--noise.total-steps", "4", "--noise.s1", "20"] if settings else []
    weights = []
    for ranks in (1, 2):
        out = tmp_path / f"out-{ranks}"
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command = ["-m", "pipeline.cli.main", "train", preset, "--targets", "run", "--store", "store"]
        more = ["--out", str(out), "--batch-size", "16", "--steps", "4", "--micro-batch", "5", "--device", "cpu"]
        run = subprocess.run(
            [sys.executable, *launcher, *command, *more, *flags, "--network.channels", "16", "--optimiser.lr", "1e-3"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.count("checkpoint:") == 1, "rank 0 alone reports"
        weights.append(load_file(out / "checkpoints" / "00000004" / "state.safetensors"))
    for name, value in weights[0].items():
        if name.startswith("model"):
            torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=2e-4)
