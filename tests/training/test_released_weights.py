"""Snapshots of EDM and EDM2 become checkpoints with the same outputs; nothing in a pickle runs."""

import os
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from postmean.cli.main import run as postmean
from postmean.training import load_denoiser
from postmean.training.model.networks import ADMNetwork, DDPMppNetwork, EDM2Network, NCSNppNetwork
from postmean.training.optimiser import OptimiserConfig
from postmean.training.presets import PRESETS
from tests.support.exact_runs import make_run
from tests.support.persistence import persistent, snapshot
from tests.support.runs import assert_one_line
from tests.support.small_training import train
from tests.support.stores import digits_store

SHAPE = (2, 8, 8)
SMALL = dict(channels=16, channel_mult=(1, 2), layers_per_block=1, attention_resolutions=(4,), dropout=0.1)
SIZES = dict(model_channels=16, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[4], dropout=0.1)
WHOLE = dict(img_resolution=8, img_channels=2)
SONG = dict(model_type="SongUNet", augment_dim=9, use_fp16=False)
NCSN = dict(
    embedding_type="fourier",
    encoder_type="residual",
    decoder_type="standard",
    channel_mult_noise=2,
    resample_filter=[1, 3, 3, 1],
)
RELEASED: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "ddpm++": (DDPMppNetwork(**SMALL), "EDMPrecond", SONG | dict(sigma_data=np.float64(0.5))),
    "ncsn++": (NCSNppNetwork(**SMALL), "EDMPrecond", SONG | NCSN),
    "adm": (ADMNetwork(**SMALL), "EDMPrecond", dict(model_type="DhariwalUNet", label_dim=3)),
    "edm2": (EDM2Network(**SMALL), "Precond", dict(label_dim=3, use_fp16=True, logvar_channels=128)),
}


class Whole(nn.Module):
    """A preconditioned network, as the snapshots have them."""

    def __init__(self, network: nn.Module, part: str) -> None:
        super().__init__()
        self.add_module(part, network)
        if part == "unet":  # of the learned uncertainty
            self.logvar_linear = nn.Linear(4, 1)


def released(name: str, shape: tuple[int, int, int] = SHAPE, **changes: Any) -> tuple[nn.Module, bytes]:
    """A network with random weights, and its snapshot."""
    settings, kind, kwargs = RELEASED[name]
    network = settings.build(shape, kwargs.get("label_dim", 0))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    if kind == "Precond":
        network.half()
    if "augment_dim" in kwargs:
        network.map_augment = nn.Linear(9, 16 * settings.embedding_mult, bias=False)
    whole = Whole(network, "unet" if kind == "Precond" else "model")
    return network, snapshot(persistent(whole, kind, **(WHOLE | SIZES | kwargs | changes)))


@pytest.mark.parametrize("name", RELEASED)
def test_a_snapshot_becomes_a_checkpoint_with_its_outputs(name: str, tmp_path: Path, capsys) -> None:
    network, data = released(name)
    (tmp_path / "net.pkl").write_bytes(data)
    assert postmean("import-weights", [str(tmp_path / "net.pkl"), "--out", str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out.startswith(f"{name}, ")
    denoiser = load_denoiser(tmp_path / "model")
    x, time = torch.randn(2, *SHAPE), torch.tensor([-1.0, 0.5])
    label = torch.tensor([2, 0]) if name in ("adm", "edm2") else None
    with torch.no_grad():
        torch.testing.assert_close(denoiser.network(x, time, label), network.float().eval()(x, time, label))
    drawn = ["--out", str(tmp_path / "images"), "--count=1", "--steps=2", "--device=cpu"]
    if name == "ddpm++":  # images of two channels cannot be written, so what is drawn stays unwritten
        assert postmean("inspect", [str(tmp_path / "model")]) == 0
        assert postmean("sample", [str(tmp_path / "model"), *drawn, "--sampler=consistency"]) == 2
        assert_one_line(capsys.readouterr().err, "a denoiser, not a consistency model")


def test_consistency_tuning_begins_with_imported_weights(tmp_path: Path) -> None:
    network, data = released("ddpm++", (1, 8, 8), img_channels=1)
    (tmp_path / "net.pkl").write_bytes(data)
    assert postmean("import-weights", [str(tmp_path / "net.pkl"), "--out", str(tmp_path / "edm")]) == 0
    store, ect = digits_store(tmp_path / "store", 40), PRESETS["ect-cifar10"]
    make_run(tmp_path / "targets", store, 8, recipe=ect.recipe, max_support=40)
    frozen = OptimiserConfig(name="radam", lr=1e-30)
    tiny = replace(ect, network=DDPMppNetwork(**SMALL), batch_size=8, steps=1, optimiser=frozen)
    train(tiny, tmp_path / "targets", store.path, tmp_path / "ect", init=str(tmp_path / "edm"))
    tuned = load_denoiser(tmp_path / "ect").network.state_dict()
    for name, tensor in network.state_dict().items():
        if not name.startswith("map_augment"):
            torch.testing.assert_close(tuned[name], tensor, rtol=0, atol=1e-6)


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def hostile_storage(command: str) -> Any:
    """A storage whose own bytes are a hostile pickle."""

    class Storage:
        def __reduce__(self) -> Any:
            return torch.storage._load_from_bytes, (pickle.dumps(Hostile(command)),)

    return Storage()


@pytest.mark.parametrize("where", ["beside", "inside", "storage"])
def test_a_snapshot_that_would_run_a_command_runs_nothing(where: str, tmp_path: Path, capsys) -> None:
    settings, kind, kwargs = RELEASED["ddpm++"]
    command = f"touch {tmp_path / 'ran'}"
    whole = persistent(Whole(settings.build(SHAPE, 0), "model"), kind, **(WHOLE | SIZES | kwargs))
    if where == "inside":
        whole.hook = Hostile(command)
    more = {"beside": dict(augment_pipe=Hostile(command)), "storage": dict(data=hostile_storage(command))}
    (tmp_path / "net.pkl").write_bytes(snapshot(whole, **more.get(where, {})))
    assert postmean("import-weights", [str(tmp_path / "net.pkl"), "--out", str(tmp_path / "model")]) == 2
    assert_one_line(capsys.readouterr().err, "refused to unpickle posix.system", "none of their code is run")
    assert not (tmp_path / "ran").exists() and not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(model_type="OtherUNet"), "model_type OtherUNet"),
        (dict(encoder_type="skip"), "neither DDPM"),
        (dict(model_channels=32), "weight .*: shape"),
        (dict(model_channels=2**40), "its settings are not those of EDM or EDM2"),
        (dict(num_blocks=10**9), "its settings are not those of EDM or EDM2"),
        (dict(surprise=1), "surprise are unknown"),
    ],
)
def test_networks_that_were_not_published_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys
) -> None:
    (tmp_path / "net.pkl").write_bytes(released("ddpm++", **changes)[1])
    assert postmean("import-weights", [str(tmp_path / "net.pkl"), "--out", str(tmp_path / "model")]) == 2
    error = capsys.readouterr().err
    assert_one_line(error, "net.pkl: ")
    assert re.search(message, error), error


def test_damaged_files_are_refused(tmp_path: Path, capsys) -> None:
    _, data = released("ddpm++")
    shrunk = data.replace((16 * 2 * 9).to_bytes(8, "little"), (3).to_bytes(8, "little"))  # length of a storage
    assert shrunk != data
    for damaged in (b"", data[:-100], data[:5000], shrunk, pickle.dumps([1]), pickle.dumps({"ema": {}})):
        (tmp_path / "net.pkl").write_bytes(damaged)
        assert postmean("import-weights", [str(tmp_path / "net.pkl"), "--out", str(tmp_path / "model")]) == 2
        assert_one_line(capsys.readouterr().err, "net.pkl: ")
    (tmp_path / "model").mkdir()
    assert postmean("import-weights", [str(tmp_path / "net.pkl"), "--out", str(tmp_path / "model")]) == 2
    assert_one_line(capsys.readouterr().err, "exists already")
