"""Two processes under torchrun take the same steps as one process, or none."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from postmean.contract.noise import ICTNoise
from postmean.training.out_lock import OutLock
from tests.support.exact_runs import make_run
from tests.support.runs import assert_one_line, free_port, wait_until, without_progress
from tests.support.stores import digits_store

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("preset", ["edm-digits", "ict-digits"])
def test_two_ranks_train_as_one(tmp_path: Path, preset: str) -> None:
    noise = ICTNoise(batch_size=16, total_steps=4, s1=20)
    store = digits_store(tmp_path / "store", 60)
    settings = dict(solver="heun", noise=noise) if preset == "ict-digits" else {}
    make_run(tmp_path / "run", store, 64, max_support=60, **settings)
    flags = ["--noise.batch-size", "16", "--noise.total-steps", "4", "--noise.s1", "20"] if settings else []
    weights = []
    for ranks in (1, 2):
        out = tmp_path / f"out-{ranks}"
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command = ["-m", "postmean", "train", preset, "--targets", "run", "--store", "store"]
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


def start_on_hosts(*hosts: Path, **different: tuple) -> list[subprocess.Popen]:
    """Start one rank in each of these working directories, like hosts with different disks under the same path.

    Args:
        different: flags that differ, with a value for each rank.
    """
    command = ["-m", "postmean", "train", "edm-digits", "--store", "../store", "--device", "cpu"]
    command += ["--batch-size", "16", "--network.channels", "16", "--out", "model"]
    port = str(free_port())
    ranks = []
    for rank, host in enumerate(hosts):
        host.mkdir(exist_ok=True)
        place = {"RANK": str(rank), "WORLD_SIZE": str(len(hosts)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        flags = [f"--{name.replace('_', '-')}={values[rank]}" for name, values in different.items()]
        ranks.append(
            subprocess.Popen(
                [sys.executable, *command, *flags],
                cwd=host,
                env={**os.environ, **place, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return ranks


def ends(ranks: list[subprocess.Popen]) -> list[subprocess.CompletedProcess]:
    try:
        errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [subprocess.CompletedProcess(r.args, r.returncode, "", e) for r, e in zip(ranks, errors, strict=True)]


def train_on_hosts(*hosts: Path, **different: tuple) -> list[subprocess.CompletedProcess]:
    """Train to the end; see `start_on_hosts`."""
    return ends(start_on_hosts(*hosts, **different))


@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_one_rank_stops_all_at_one_step(tmp_path: Path, told: int) -> None:
    store = digits_store(tmp_path / "store", 60)
    make_run(tmp_path / "run", store, 16 * 100_000, np.full(60, 1e9, np.float32))  # all certified: no shards
    host = tmp_path / "host"
    settings = dict(targets=("../run", "../run"), steps=(100_000, 100_000), log_every=(1, 1))
    ranks = start_on_hosts(host, host, **settings)
    metrics = host / "model" / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and metrics.read_text().count("\n") > 3, "a few steps")
    ranks[told].send_signal(signal.SIGTERM)
    leader, other = ends(ranks)
    assert leader.returncode == other.returncode == 128 + signal.SIGTERM
    assert_one_line(leader.stderr, "stopped by SIGTERM at step", "saved as model/checkpoints/")
    assert without_progress(other.stderr) == ""
    (checkpoint,) = (host / "model" / "checkpoints").iterdir()
    step = int(checkpoint.name)
    assert f"at step {step:,}," in leader.stderr
    for rank in train_on_hosts(host, host, **settings | dict(steps=(step + 2, step + 2))):
        assert rank.returncode == 0, rank.stderr


def test_a_second_trainer_of_ranks_is_refused_in_all_of_them(tmp_path: Path) -> None:
    store = digits_store(tmp_path / "store", 60)
    make_run(tmp_path / "run", store, 64, max_support=60)
    lock = OutLock(tmp_path / "host" / "model")
    lock.take()
    for rank in train_on_hosts(tmp_path / "host", tmp_path / "host", targets=("../run", "../run"), steps=(2, 2)):
        assert rank.returncode == 2
        assert_one_line(rank.stderr, "another `postmean train` is at work there")
    lock.release()


def test_ranks_that_do_not_see_the_same_out_are_refused(tmp_path: Path) -> None:
    store = digits_store(tmp_path / "store", 60)
    make_run(tmp_path / "run", store, 64, max_support=60)
    one, other = tmp_path / "host-0", tmp_path / "host-1"
    targets = ("../run", "../run")
    assert train_on_hosts(one, targets=targets, steps=(2,))[0].returncode == 0
    refused = train_on_hosts(one, other, targets=targets, steps=(4, 4))
    for rank in refused:
        assert rank.returncode == 2
        assert_one_line(rank.stderr, "model: step is 2 at rank 0, 0 at rank 1: --out must be one folder that all hosts")
    assert not (other / "model").exists()
    assert [rank.returncode for rank in train_on_hosts(one, one, targets=targets, steps=(4, 4))] == [0, 0]


def test_ranks_of_different_targets_or_lengths_are_refused(tmp_path: Path) -> None:
    store = digits_store(tmp_path / "store", 60)
    make_run(tmp_path / "run", store, 64, max_support=60)
    make_run(tmp_path / "copied", store, 128, max_support=60, records_per_shard=32)
    make_run(tmp_path / "other", store, 64, max_support=60, seed=8)
    host = tmp_path / "host"
    for targets, steps, message in (
        (("../run", "../other"), (2, 2), "targets.seed is 7 at rank 0, 8 at rank 1"),
        (("../run", "../run"), (2, 3), "batches is 2 at rank 0, 3 at rank 1"),
    ):
        for rank in train_on_hosts(host, host, targets=targets, steps=steps):
            assert rank.returncode == 2
            assert_one_line(rank.stderr, message, "start every rank with the same command")
    assert not (host / "model").exists()
    done = train_on_hosts(host, host, targets=("../run", "../copied"), steps=(2, 2))
    assert [rank.returncode for rank in done] == [0, 0], "an extended run has the same targets"
