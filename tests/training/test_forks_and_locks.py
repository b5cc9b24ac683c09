"""A run goes on from any checkpoint with other settings; damage, divergence and a second trainer do it no harm."""

import dataclasses
import fcntl
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from postmean.base.errors import ConfigError, DataError, MismatchError
from postmean.contract.image_store import ImageStore
from postmean.training.checkpoint import complete_checkpoints
from postmean.training.checkpoint_files import whole_folder
from postmean.training.config import TrainConfig
from postmean.training.loop import TrainReport
from postmean.training.model.losses import FlowLoss
from postmean.training.optimiser import OptimiserConfig
from postmean.training.out_lock import LOCK, OutLock
from postmean.training.train_log import TrainingError
from tests.support import small_training
from tests.support.exact_runs import make_run
from tests.support.small_training import BATCH, train
from tests.support.stores import digits_store

CONFIG = dataclasses.replace(
    small_training.CONFIG,
    checkpoint_every=2,
    keep_checkpoints=5,
    log_every=3,
)
STATE, AVERAGE = "state.safetensors", "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forks")


@pytest.fixture(scope="module")
def store(folder: Path) -> ImageStore:
    store = digits_store(folder / "store", 40)
    make_run(folder / "run", store, 10 * BATCH, max_support=40)
    return store


@pytest.fixture(scope="module")
def whole(folder: Path, store: ImageStore) -> Path:
    """An undisturbed run with checkpoints 2, 4 and 6."""
    call(store, folder / "whole")
    return folder / "whole"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "copy")


def call(store: ImageStore, out: Path, config: TrainConfig = CONFIG, **more: str) -> TrainReport:
    return train(config, store.path.parent / "run", store.path, out, **more)


def assert_same_weights(a: Path, b: Path) -> None:
    for name in (STATE, AVERAGE):
        ours, theirs = load_file(a / name), load_file(b / name)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours), name


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_fork_with_the_same_settings_is_the_run_itself(store: ImageStore, whole: Path, tmp_path: Path) -> None:
    for name, text in (("step", f"{whole}@2"), ("folder", str(whole / "checkpoints" / "00000002"))):
        out = tmp_path / name
        report = call(store, out, start_from=text)
        assert (report.resumed_from, report.step) == (2, 6)
        assert [int(c.name) for c in complete_checkpoints(out)] == [4, 6]
        assert_same_weights(whole / "checkpoints" / "00000006", out / "checkpoints" / "00000006")
        lines = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert lines == [3, 4, 6]


def test_a_diverged_run_goes_on_from_a_checkpoint_at_a_lower_rate(
    store: ImageStore, whole: Path, tmp_path: Path
) -> None:
    wild = dataclasses.replace(CONFIG, optimiser=OptimiserConfig(name="adam", lr=1e30))
    with pytest.raises(TrainingError) as refused:
        call(store, tmp_path / "wild", wild, start_from=f"{whole}@4")
    assert not complete_checkpoints(tmp_path / "wild"), "weights of 1e30 are not saved as good"
    said = re.search(r"--from (\S+),", str(refused.value))
    assert said and "the last good weights" in str(refused.value)
    calm = dataclasses.replace(CONFIG, optimiser=dataclasses.replace(CONFIG.optimiser, lr=1e-4))
    report = call(store, tmp_path / "calm", calm, start_from=said[1])  # the remedy, followed
    assert (report.resumed_from, report.step) == (4, 6)
    again = call(store, tmp_path / "calm", calm, start_from=said[1])
    assert again.resumed_from == 6, "the same command again has nothing to do"


def test_weights_are_tried_before_they_are_saved(store: ImageStore, tmp_path: Path) -> None:
    """The loss of the first step is that of the initial weights: it is finite whatever the step does to them."""
    wild = dataclasses.replace(CONFIG, optimiser=OptimiserConfig(name="adam", lr=1e30), checkpoint_every=1, log_every=1)
    with pytest.raises(TrainingError, match=r"the weights of step 1 give no finite loss.*none, no checkpoint"):
        call(store, tmp_path / "out", wild)
    assert not complete_checkpoints(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.jsonl").read_text())["step"] == 1


def test_a_fork_of_another_batch_size_keeps_the_place_in_the_stream(
    store: ImageStore, whole: Path, tmp_path: Path
) -> None:
    double = dataclasses.replace(CONFIG, batch_size=2 * BATCH, steps=3)
    report = call(store, tmp_path / "double", double, start_from=f"{whole}@4")
    assert (report.resumed_from, report.step, report.images) == (2, 3, 6 * BATCH)
    with pytest.raises(MismatchError, match="at tuple 16, where no batch of 3 begins"):
        call(store, tmp_path / "odd", dataclasses.replace(CONFIG, batch_size=3), start_from=f"{whole}@2")
    with pytest.raises(MismatchError, match="at step 6, this run ends at 6"):
        call(store, tmp_path / "short", start_from=f"{whole}@6")
    assert not (tmp_path / "odd").exists() and not (tmp_path / "short").exists()


def test_what_cannot_be_forked_is_refused(store: ImageStore, whole: Path, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"00000003 is no checkpoint: pass RUN@STEP.*has the steps 2, 4, 6"):
        call(store, tmp_path / "out", start_from=f"{whole}@3")
    with pytest.raises(ConfigError, match=r"is no checkpoint: pass RUN@STEP.*has the steps 2, 4, 6"):
        call(store, tmp_path / "out", start_from=str(whole))
    with pytest.raises(ConfigError, match="no checkpoints"):
        call(store, tmp_path / "out", start_from="nowhere@2")
    inner = shutil.copytree(whole / "checkpoints" / "00000002", copy / "inside" / "checkpoints" / "kept")
    with pytest.raises(ConfigError, match=r"of --out .* itself"):
        call(store, copy / "inside", start_from=str(inner))
    with pytest.raises(ConfigError, match="pass one of them"):
        call(store, tmp_path / "out", start_from=f"{whole}@2", init=str(whole))
    wider = dataclasses.replace(CONFIG, network=dataclasses.replace(CONFIG.network, channels=16))
    with pytest.raises(MismatchError, match="another network"):
        call(store, tmp_path / "out", wider, start_from=f"{whole}@2")
    light = tmp_path / "light"  # as imported weights are
    with whole_folder(light) as made:
        shutil.copytree(whole / "checkpoints" / "00000002" / "unet", made / "unet")
        shutil.copy(whole / "checkpoints" / "00000002" / "denoiser.json", made)
    with pytest.raises(ConfigError, match=r"light has the averaged weights alone.* begin with --init \S+light$"):
        call(store, tmp_path / "out", start_from=str(light))
    flip(copy / "checkpoints" / "00000004" / AVERAGE)
    with pytest.raises(DataError, match=r"--from: .*damaged"):
        call(store, tmp_path / "out", start_from=f"{copy}@4")
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_only_from_where_it_began(store: ImageStore, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call(store, out, dataclasses.replace(CONFIG, steps=4), start_from=f"{whole}@2")
    with pytest.raises(MismatchError, match=r"--from is '\S+00000002' there, '\S+00000004' here"):
        call(store, out, start_from=f"{whole}@4")
    assert call(store, out).resumed_from == 4, "its own checkpoints need no --from"
    assert call(store, out, start_from=f"{whole}@2").resumed_from == 6
    moved = whole.rename(whole.with_name("moved"))
    assert call(store, out, start_from=f"{whole}@2").resumed_from == 6, "the origin is not needed any more"
    moved.rename(whole)
    shutil.rmtree(out / "checkpoints")  # as after a kill before the first one
    with pytest.raises(MismatchError, match=r"--from is '\S+00000002' there, 'nothing' here"):
        call(store, out)
    assert call(store, out, start_from=f"{whole}@2").resumed_from == 2
    with pytest.raises(MismatchError, match="--init is 'nothing' there"):
        call(store, whole, init=str(out))


def test_settings_of_earlier_versions_are_those_of_this_one(store: ImageStore, copy: Path) -> None:
    path = copy / "config.json"
    plain = json.loads(path.read_text())
    plain["config"]["loss"] = {"kind": "edm", "weight": "edm"}
    path.write_text(json.dumps(plain))
    assert call(store, copy).resumed_from == 6
    plain["config"]["loss"]["weight"] = "velocity"
    path.write_text(json.dumps(plain))
    with pytest.raises(MismatchError, match=r"loss\.kind is 'flow' there, 'edm' here"):
        call(store, copy)
    assert call(store, copy, dataclasses.replace(CONFIG, loss=FlowLoss())).resumed_from == 6


def test_micro_batch_precision_and_ranks_may_change_and_are_told(
    store: ImageStore, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"ranks": 4}))
    report = call(store, copy, dataclasses.replace(CONFIG, micro_batch=3, precision="bf16", steps=8))
    assert (report.resumed_from, report.step) == (6, 8)
    said = capfd.readouterr().err
    for change in (
        "micro_batch is None there, 3 here",
        "precision is 'fp32' there, 'bf16' here",
        "ranks is 4 there, 1 here",
    ):
        assert change in said
    call(store, copy, dataclasses.replace(CONFIG, micro_batch=3, precision="bf16", steps=9))
    assert "micro_batch" not in capfd.readouterr().err
    with pytest.raises(MismatchError, match=r"another --out, which can go on from here with --from \S+copy@9"):
        call(store, copy, dataclasses.replace(CONFIG, seed=5, steps=10))


@pytest.mark.parametrize(
    "name, damage",
    [
        (STATE, "flip"),
        (STATE, "cut"),
        (AVERAGE, "flip"),
        ("state.json", "flip"),
        ("denoiser.json", "gone"),
        ("files.json", "cut"),
    ],
)
def test_a_damaged_newest_checkpoint_is_passed_by(
    store: ImageStore, whole: Path, copy: Path, capfd: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    newest = copy / "checkpoints" / "00000006"
    if damage == "flip":
        flip(newest / name)
    elif damage == "cut":
        (newest / name).write_bytes((newest / name).read_bytes()[:-3])
    else:
        (newest / name).unlink()
    report = call(store, copy)
    assert (report.resumed_from, report.step) == (4, 6)
    said = capfd.readouterr().err
    assert str(newest / name) in said and "resumed from step 4" in said
    assert_same_weights(whole / "checkpoints" / "00000006", newest)
    assert (copy / "checkpoints" / "00000006.damaged").is_dir()
    assert [int(c.name) for c in complete_checkpoints(copy)] == [2, 4, 6]


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(store: ImageStore, copy: Path) -> None:
    for checkpoint in complete_checkpoints(copy):
        flip(checkpoint / STATE)
    with pytest.raises(DataError, match=r"00000002.*damaged"):
        call(store, copy)
    assert len(complete_checkpoints(copy)) == 3


def test_checkpoints_without_their_config_are_not_gone_on_with_by_guess(store: ImageStore, copy: Path) -> None:
    (copy / "config.json").unlink()
    (copy / "metrics.jsonl").write_bytes(b"\xff torn")
    longer = dataclasses.replace(CONFIG, steps=7)
    with pytest.raises(DataError, match=r"config\.json: missing: go on with another --out and --from \S+@6"):
        call(store, copy, longer)
    assert call(store, copy.with_name("next"), longer, start_from=f"{copy}@6").step == 7


def test_a_second_trainer_is_refused_while_the_first_works(store: ImageStore, copy: Path) -> None:
    lock = OutLock(copy)
    lock.take()
    with pytest.raises(
        MismatchError, match=r"copy: another `postmean train` is at work there \(host \S+, process \d+\)"
    ):
        call(store, copy)
    lock.release()
    assert not (copy / LOCK).exists()
    assert call(store, copy).resumed_from == 6


def test_the_lock_of_a_dead_trainer_holds_nobody(store: ImageStore, copy: Path) -> None:
    (copy / LOCK).write_bytes(b'{"host": "x", "pid": 1}')
    assert call(store, copy).resumed_from == 6
    (copy / LOCK).write_bytes(b"\xff torn")
    with (copy / LOCK).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(MismatchError, match="at work there: wait"):
            call(store, copy)


def test_a_refused_call_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model"
    with pytest.raises(MismatchError, match="--tuples"):
        call(store, out, dataclasses.replace(CONFIG, steps=1000))
    assert not out.exists()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match="is no folder: pass another --out"):
        call(store, tmp_path / "file")


def test_a_full_disk_is_one_line_and_loses_nothing(store: ImageStore, whole: Path, small_disk: Path) -> None:
    out = small_disk / "model"
    call(store, out, dataclasses.replace(CONFIG, steps=2))
    (small_disk / "filler").write_bytes(bytes(max(0, shutil.disk_usage(small_disk).free - 100_000)))
    with pytest.raises(DataError, match=r"00000004: cannot be written .*make room"):
        call(store, out)
    assert [c.name for c in complete_checkpoints(out)] == ["00000002"]
    roomy = shutil.copytree(out, small_disk.parent / "roomy")
    assert call(store, roomy).resumed_from == 2
    assert_same_weights(whole / "checkpoints" / "00000006", roomy / "checkpoints" / "00000006")


@pytest.mark.parametrize(
    "change",
    [
        dict(seed=-1),
        dict(optimiser=dict(lr=float("nan"))),
        dict(optimiser=dict(lr=float("inf"))),
        dict(optimiser=dict(beta1=1.0)),
        dict(optimiser=dict(weight_decay=-1.0)),
        dict(schedule=dict(warmup_kimg=float("nan"))),
        dict(preconditioning=dict(sigma_data=0.0)),
        dict(ema=dict(half_life_kimg=float("nan"))),
    ],
    ids=str,
)
def test_numbers_that_no_training_can_have_are_refused(change: dict) -> None:
    with pytest.raises(ConfigError):
        fields = {
            name: dataclasses.replace(getattr(CONFIG, name), **value) if isinstance(value, dict) else value
            for name, value in change.items()
        }
        dataclasses.replace(CONFIG, **fields)
