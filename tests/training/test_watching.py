"""What a training run shows of itself: lines of metrics, event files that TensorBoard reads."""

import importlib.util
import json
import shutil
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import torch
from PIL import Image

from postmean.base.errors import ConfigError
from postmean.contract.image_store import ImageStore
from postmean.training.checkpoint import load_denoiser
from postmean.training.model.sampler_config import SamplerConfig
from postmean.training.sample import sample
from postmean.training.sample_config import SampleConfig
from postmean.training.watching.every import Every
from postmean.training.watching.models import mark_best
from tests.support.exact_runs import make_run
from tests.support.small_training import BATCH, CONFIG, train
from tests.support.stores import digits_store

STEPS = 4
LINES = replace(CONFIG, steps=STEPS, log_every=1, checkpoint_every=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return digits_store(tmp_path_factory.mktemp("watching") / "store", 50)


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory, store: ImageStore) -> Path:
    path = tmp_path_factory.mktemp("watching") / "targets"
    make_run(path, store, 8 * BATCH, max_support=50)
    return path


@pytest.fixture(scope="module")
def out(targets: Path, store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was resumed at step 2, after lines up to step 3."""
    out = tmp_path_factory.mktemp("watching") / "model"
    train(replace(LINES, steps=3, checkpoint_every=2), targets, store.path, out)
    shutil.rmtree(out / "checkpoints" / "00000003")
    train(LINES, targets, store.path, out)
    return out


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def events(file: Path) -> Iterator[Any]:
    """The events of a file: records of length, checksum, data, masked CRC-32C, as TensorFlow writes them."""
    from tensorboardX.proto.event_pb2 import Event

    def checked(data: bytes, masked: bytes) -> bytes:
        crc = google_crc32c.value(data)
        assert struct.unpack("<I", masked)[0] == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
        return data

    data = file.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", checked(data[:8], data[8:12]))
        yield Event.FromString(checked(data[12 : 12 + length], data[12 + length : 16 + length]))
        data = data[16 + length :]


def test_each_line_says_when_how_steep_and_how_much_memory(out: Path) -> None:
    lines = lines_of(out)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert time.time() - 600 < line["time"] < time.time()
        assert line["gradient_norm"] > 0
        assert line["ema_decay"] == CONFIG.ema.decay_at(line["step"] * BATCH, BATCH)
        assert line["noise_stage"] is None  # edm has no curriculum
        assert line["peak_memory_bytes"] > 50e6
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


def test_gradient_norm_is_that_before_clipping(targets: Path, store: ImageStore, tmp_path: Path) -> None:
    norms = []
    for clip in (None, 1e9, 1e-3):
        config = replace(LINES, steps=1, optimiser=replace(CONFIG.optimiser, clip_norm=clip))
        train(config, targets, store.path, tmp_path / str(clip))
        norms.append(lines_of(tmp_path / str(clip))[0]["gradient_norm"])
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-6)


def test_event_files_hold_the_numbers_of_the_lines(out: Path) -> None:
    shown: dict[str, dict[int, float]] = {}
    for file in sorted((out / "tensorboard").iterdir(), key=lambda file: file.stat().st_mtime):
        for event in events(file):
            if event.WhichOneof("what") == "session_log":  # a restart at this step: earlier points from there on go
                shown = {name: {s: v for s, v in of.items() if s < event.step} for name, of in shown.items()}
            for value in event.summary.value:
                shown.setdefault(value.tag, {})[event.step] = value.simple_value
    lines = lines_of(out)
    assert shown["loss"] == pytest.approx({line["step"]: line["loss"] for line in lines}, rel=1e-6)
    assert shown["gradient_norm"].keys() == {1, 2, 3, 4}
    assert "time" not in shown
    for name in {name for line in lines for name in line["loss_by_sigma"]}:
        expected = {line["step"]: line["loss_by_sigma"][name] for line in lines if name in line["loss_by_sigma"]}
        assert shown[f"loss_by_sigma/{name}"] == pytest.approx(expected, rel=1e-6)


def test_the_curriculum_s_stage_is_that_of_its_levels() -> None:
    from postmean.contract.noise import ECTNoise, ICTNoise

    ict = ICTNoise(total_steps=40, batch_size=4, s0=2, s1=16)
    for tuple_id in range(0, 200, 4):
        doublings = ict.stage_at(tuple_id)
        assert ict.grid_size(tuple_id // 4) == min(2 * 2**doublings, 16) + 1  # type: ignore[arg-type]
    assert [ECTNoise(stage_tuples=10).stage_at(n) for n in (0, 9, 10, 25)] == [0, 0, 1, 2]


def grids_of(out: Path) -> dict[int, np.ndarray]:
    def pixels(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return np.asarray(image)

    return {int(path.stem): pixels(path) for path in sorted((out / "grids").iterdir())}


def test_a_grid_shows_the_samples_that_sample_draws(targets: Path, store: ImageStore, tmp_path: Path) -> None:
    every = dict(grid_kimg=2 * BATCH / 1000, grid_count=3, sampling=SamplerConfig(steps=3))
    train(LINES, targets, store.path, tmp_path / "out", **every)
    grids = grids_of(tmp_path / "out")
    assert grids.keys() == {2, 4}
    sample(SampleConfig(checkpoint=tmp_path / "out", out=tmp_path / "samples", count=3, steps=3), progress=False)
    with Image.open(tmp_path / "samples" / "grid.png") as image:
        assert np.array_equal(np.asarray(image), grids[4])


def test_grids_change_nothing(out: Path, targets: Path, store: ImageStore, tmp_path: Path) -> None:
    train(LINES, targets, store.path, tmp_path / "out", grid_kimg=BATCH / 1000, sampling=SamplerConfig(steps=1))
    assert grids_of(tmp_path / "out").keys() == {1, 2, 3, 4}
    for name in ("state.safetensors", "unet/diffusion_pytorch_model.safetensors"):
        a, b = ((run / "checkpoints" / "00000004" / name).read_bytes() for run in (out, tmp_path / "out"))
        assert a == b, name
    assert [line["loss"] for line in lines_of(tmp_path / "out")] == [line["loss"] for line in lines_of(out)]


@pytest.mark.parametrize("stored, error", [("fp32", 0.0), ("fp16", 1e-3)])
def test_light_models_are_the_averages_of_their_steps(
    out: Path, targets: Path, store: ImageStore, tmp_path: Path, stored: Any, error: float
) -> None:
    kept = tmp_path / "out"
    train(LINES, targets, store.path, kept, grid_kimg=0, model_kimg=2 * BATCH / 1000, model_precision=stored)
    assert [path.name for path in sorted((kept / "models").iterdir())] == ["00000002", "00000004"]
    for step in ("00000002", "00000004"):
        light = load_denoiser(kept / "models" / step).state_dict()
        whole = load_denoiser(kept / "checkpoints" / step).state_dict()
        for name, weight in whole.items():
            assert light[name].dtype == torch.float32
            torch.testing.assert_close(light[name], weight, rtol=error, atol=error * 1e-3)
    sizes = [
        sum(file.stat().st_size for file in (kept / folder / step).rglob("*.safetensors"))
        for folder in ("models", "checkpoints")
    ]
    assert sizes[0] < sizes[1] / (7 if stored == "fp16" else 3.5)  # weights, average, and two moments of each


def test_the_best_model_is_that_of_the_lowest_fid(tmp_path: Path) -> None:
    lines = [dict(step=2, scores=dict(fid=9.0)), dict(step=4, scores=dict(fid=3.0)), dict(step=6, scores=dict(fid=4.0))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, dict(step=7)]))
    mark_best(tmp_path)
    assert not (tmp_path / "best").exists()  # no model was kept
    for step, best in ((2, 2), (6, 6), (4, 4)):
        (tmp_path / "models" / f"{step:08d}").mkdir(parents=True)
        mark_best(tmp_path)
        assert (tmp_path / "best").resolve().name == f"{best:08d}"


def test_grids_are_due_where_a_multiple_is_passed() -> None:
    for images, batch in ((100, 7), (3.5, 2), (5, 40)):
        due = [step for step in range(1, 300) if Every(images, batch).is_due(step)]
        multiples = np.arange(1, 300 * batch) * images
        assert due == sorted({int(np.ceil(m / batch)) for m in multiples if m <= 299 * batch})
    assert not any(Every(0, 7).is_due(step) for step in range(1, 100))


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_without_wandb_the_error_says_what_to_install(targets: Path, store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs wandb: pip install 'postmean\[wandb\]'"):
        train(LINES, targets, store.path, tmp_path / "out", wandb="project")
    assert not (tmp_path / "out" / "config.json").exists()
