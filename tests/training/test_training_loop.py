"""Training learns the posterior mean, resumes exactly after a kill, and refuses settings that would fail silently."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from postmean.base.errors import ConfigError, DataError, MismatchError
from postmean.base.flags import with_flags
from postmean.base.serialise import from_dict, to_dict
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.noise import ICTNoise
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.training.checkpoint import complete_checkpoints, load_denoiser
from postmean.training.config import TrainConfig
from postmean.training.model.ema import ConstantEMA, HalfLifeEMA
from postmean.training.model.preconditioning import Denoiser
from postmean.training.model.preconditionings import EDMPreconditioning
from postmean.training.optimiser import OptimiserConfig
from postmean.training.presets import PRESETS
from postmean.training.schedules import ConstantSchedule, CosineSchedule, InverseSqrtSchedule
from postmean.training.train_log import TrainingError
from tests.support.exact_runs import commit_exact_shard, exact_targets, make_run
from tests.support.small_training import train
from tests.support.stores import digits_store

TUPLES = 8_000
EDMRun = tuple[Path, Manifest]
SMALL = dataclasses.replace(PRESETS["edm-digits"].network, channels=16)
EDM = dataclasses.replace(
    PRESETS["edm-digits"], batch_size=32, steps=100, network=SMALL, ema=HalfLifeEMA(half_life_kimg=1.0)
)
ICT = with_flags(
    PRESETS["ict-digits"],
    batch_size=16,
    steps=15,
    network=dataclasses.replace(SMALL, dropout=0.2),
    noise=ICTNoise(total_steps=15, batch_size=16, s0=4, s1=16),
    log_every=7,
    checkpoint_every=5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loop")


@pytest.fixture(scope="module")
def store(folder: Path) -> ImageStore:
    return digits_store(folder / "store", 100)


@pytest.fixture(scope="module")
def edm_run(folder: Path, store: ImageStore) -> EDMRun:
    return folder / "edm", make_run(folder / "edm", store, TUPLES, max_support=200, records_per_shard=1000)


def mean_error(denoiser: Denoiser, exact: dict[str, Any], store: ImageStore) -> float:
    z, mean = (torch.from_numpy(exact[k]).float().reshape(-1, *store.image_shape) for k in ("z", "mean"))
    with torch.no_grad():
        mean_learned = denoiser(z, torch.from_numpy(exact["block"].sigma))
    return float((mean_learned - mean).square().mean())


def test_training_comes_closer_to_the_exact_posterior_mean(folder: Path, store: ImageStore, edm_run: EDMRun) -> None:
    path, manifest = edm_run
    config = dataclasses.replace(
        EDM,
        optimiser=OptimiserConfig(name="adam", lr=6e-3),
        schedule=ConstantSchedule(warmup_kimg=0.5),
        ema=HalfLifeEMA(half_life_kimg=0.3, ramp=0.2),
        log_every=25,
    )
    report = train(config, path, store.path, folder / "learns")
    held_out = exact_targets(store, manifest, manifest.tuple_source(), TUPLES, TUPLES + 400)
    untrained = train(
        dataclasses.replace(EDM, steps=1, optimiser=OptimiserConfig(name="adam", lr=1e-12)),
        path,
        store.path,
        folder / "untrained",
    )
    after = mean_error(load_denoiser(folder / "learns"), held_out, store)
    before = mean_error(load_denoiser(untrained.checkpoint), held_out, store)
    assert after < before / 3
    assert report.step == 100 and report.resumed_from == 0 and report.images == 3200
    lines = [json.loads(line) for line in (folder / "learns" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [25, 50, 75, 100]
    assert lines[-1]["loss"] < lines[0]["loss"] and 0 <= lines[0]["data_wait_share"] <= 1
    assert set(lines[0]["loss_by_sigma"]) <= {"0..0.05", "0.05..0.2", "0.2..1", "1..4", "4..16", "16..inf"}
    written = json.loads((folder / "learns" / "config.json").read_text())
    assert from_dict(TrainConfig, written["config"], "config.json") == config


def test_a_finished_run_is_left_alone_and_more_steps_go_on(folder: Path, store: ImageStore, edm_run: EDMRun) -> None:
    path, _ = edm_run
    config = dataclasses.replace(EDM, steps=3)
    out = folder / "finished"
    train(config, path, store.path, out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    again = train(config, path, store.path, out)
    assert again.step == again.resumed_from == 3 and again.loss is None
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    more = train(dataclasses.replace(config, steps=5), path, store.path, out)
    assert (more.resumed_from, more.step) == (3, 5)


CHILD = """
import json, sys, torch
from postmean.base.serialise import from_dict
from postmean.training.config import TrainConfig
from tests.support.small_training import train
torch.set_num_threads(1)
config, targets, store, out = sys.argv[1:]
train(from_dict(TrainConfig, json.loads(config), "argv"), targets, store, out, follow_seconds=3600)
"""


def test_killed_and_resumed_run_has_the_weights_of_an_undisturbed_one(folder: Path, store: ImageStore) -> None:
    straight, broken = folder / "straight", folder / "broken"
    made = dict(noise=ICT.recipe.noise, solver="heun", max_support=100, records_per_shard=5 * 16)
    manifest = make_run(folder / "ict", store, 15 * 16, commit=False, **made)
    run = RunFolder(open_storage(str(folder / "ict")))
    for shard in (0, 1):  # two shards: the child cannot pass step 10, however late the kill comes
        commit_exact_shard(run, store, manifest, shard, None)
    arguments = [json.dumps(to_dict(ICT)), str(folder / "ict"), str(store.path), str(broken)]
    paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], env=os.environ | {"PYTHONPATH": paths})
    deadline = time.monotonic() + 120
    while not complete_checkpoints(broken) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    reached = int(complete_checkpoints(broken)[-1].name)
    assert reached in (5, 10)
    commit_exact_shard(run, store, manifest, 2, None)
    resumed = train(ICT, folder / "ict", store.path, broken)
    assert resumed.resumed_from == reached
    train(ICT, folder / "ict", store.path, straight)
    for name in ("state.safetensors", "unet/diffusion_pytorch_model.safetensors"):
        a, b = (load_file(out / "checkpoints" / "00000015" / name) for out in (straight, broken))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), name
    steps, losses = [], []
    for out in (straight, broken):
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        steps.append([line["step"] for line in lines])
        losses.append([line["loss"] for line in lines])
    assert steps[0] == steps[1] == [5, 7, 10, 14, 15]
    assert losses[0] == losses[1]
    assert len(complete_checkpoints(broken)) == ICT.keep_checkpoints
    assert not list((broken / "checkpoints").glob(".*"))


def test_another_config_does_not_go_on_with_a_run(folder: Path, store: ImageStore, edm_run: EDMRun) -> None:
    path, _ = edm_run
    out = folder / "other-config"
    config = dataclasses.replace(EDM, steps=1)
    train(config, path, store.path, out)
    changed = dataclasses.replace(config, steps=2, optimiser=OptimiserConfig(name="adam", lr=0.5))
    with pytest.raises(MismatchError, match=r"optimiser\.lr is 0\.002 there, 0\.5 here"):
        train(changed, path, store.path, out)


def test_a_loss_that_is_not_finite_stops_without_a_checkpoint(folder: Path, store: ImageStore, edm_run: EDMRun) -> None:
    path, _ = edm_run
    config = dataclasses.replace(
        EDM, steps=60, log_every=20, checkpoint_every=30, optimiser=OptimiserConfig(name="adam", lr=1e30)
    )
    with pytest.raises(TrainingError, match=r"not finite.*none, no checkpoint"):
        train(config, path, store.path, folder / "diverges")
    assert not complete_checkpoints(folder / "diverges")


def test_micro_batches_give_the_same_step(folder: Path, store: ImageStore, edm_run: EDMRun) -> None:
    path, _ = edm_run
    weights = []
    for micro in (None, 10):
        out = folder / f"micro-{micro}"
        train(dataclasses.replace(EDM, steps=3, micro_batch=micro), path, store.path, out)
        weights.append(load_file(out / "checkpoints" / "00000003" / "state.safetensors"))
    for name, value in weights[0].items():
        if name.startswith("model"):
            torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-4)


def test_init_begins_with_the_averaged_weights_of_a_checkpoint(
    folder: Path, store: ImageStore, edm_run: EDMRun
) -> None:
    path, _ = edm_run
    frozen = OptimiserConfig(name="adam", lr=1e-30)
    first = train(dataclasses.replace(EDM, steps=2), path, store.path, folder / "first")
    config = dataclasses.replace(EDM, steps=1, optimiser=frozen, seed=9)
    second = train(config, path, store.path, folder / "second", init=first.checkpoint)
    a, b = (load_file(f"{r.checkpoint}/unet/diffusion_pytorch_model.safetensors") for r in (first, second))
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=0, atol=1e-25)
    wider = dataclasses.replace(config, network=dataclasses.replace(SMALL, channels=32))
    with pytest.raises(MismatchError, match="another network"):
        train(wider, path, store.path, folder / "third", init=first.checkpoint)


def test_conditional_training_uses_the_labels(folder: Path, store: ImageStore) -> None:
    make_run(folder / "classes", store, 64, conditional=True, max_support=100)
    config = with_flags(EDM, steps=2, conditional=True)
    report = train(config, folder / "classes", store.path, folder / "conditional")
    denoiser = load_denoiser(report.checkpoint)
    z, sigma = torch.randn(1, 1, 8, 8), torch.ones(1)
    assert not torch.equal(denoiser(z, sigma, torch.tensor([0])), denoiser(z, sigma, torch.tensor([1])))


def test_a_damaged_checkpoint_is_an_error_that_names_it(folder: Path, store: ImageStore, edm_run: EDMRun) -> None:
    path, _ = edm_run
    config = dataclasses.replace(EDM, steps=1)
    report = train(config, path, store.path, folder / "torn")
    file = Path(report.checkpoint) / "state.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"00000001.*remove it"):
        train(dataclasses.replace(config, steps=2), path, store.path, folder / "torn")


def test_decays_and_rates_follow_their_papers() -> None:
    ema = HalfLifeEMA(half_life_kimg=500)
    assert ema.decay_at(10_000_000, 512) == 0.5 ** (512 / 500_000)
    assert ema.decay_at(2_000_000, 512) == 0.5 ** (512 / 100_000)  # 0.05 of the images seen so far
    assert ConstantEMA(decay=0.99).decay_at(5, 5) == 0.99
    warm = ConstantSchedule(warmup_kimg=10_000)
    assert [warm.factor(n) for n in (5_000_000, 10_000_000, 2 * 10**8)] == [0.5, 1, 1]
    falls = PRESETS["ect-imagenet64"].schedule  # from 2000 batches of 128 on
    assert np.allclose([falls.factor(128 * n) for n in (1, 2000, 8000, 32_000)], [1, 1, 0.5, 0.25])
    edm2 = InverseSqrtSchedule(decay_kimg=200, warmup_kimg=100)
    assert np.allclose([edm2.factor(n) for n in (50_000, 100_000, 800_000)], [0.5, 1, 0.5])
    cosine = CosineSchedule(end_kimg=110, warmup_kimg=10, lowest=0.1)
    assert np.allclose([cosine.factor(n) for n in (5_000, 10_000, 60_000, 110_000, 10**6)], [0.5, 1, 0.55, 0.1, 0.1])


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(noise=ICT.recipe.noise), "loss edm does not go with noise ict"),
        (dict(steps=0), "steps"),
        (dict(micro_batch=0), "micro_batch"),
    ],
)
def test_configs_that_make_no_sense_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_flags(EDM, **change)


def test_consistency_configs_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch_size 32, noise\.batch_size 16"):
        dataclasses.replace(ICT, batch_size=32)
    with pytest.raises(ConfigError, match="preconditioning cm"):
        dataclasses.replace(ICT, preconditioning=EDMPreconditioning())
