"""Checkpoints: a folder of safetensors and JSON. Nothing in it is ever unpickled.

CHECKPOINT/network/           averaged (EMA) weights, and the settings of the network
CHECKPOINT/unet/              in its place, for a network of diffusers: UNet2DModel.from_pretrained(CHECKPOINT/unet)
CHECKPOINT/denoiser.json      preconditioning, time conditioning, process: how to use the network
CHECKPOINT/state.safetensors  raw weights, what the loss learns, further averages and optimiser, to resume training
CHECKPOINT/state.json         step, next tuple
CHECKPOINT/files.json         SHA-256 of all these files, which is checked before they are loaded
CHECKPOINT/scheduler/, model_index.json    with unet/: what diffusers needs to sample, see `diffusers_export`

The checkpoint of step 1000 is RUN/checkpoints/00001000. Such a folder is complete: it is renamed into place.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from postmean.base.errors import ConfigError, DataError
from postmean.base.extras import needs
from postmean.base.files import remove_leftovers
from postmean.base.json_files import JsonError, check_schema, parse_json, to_json
from postmean.base.log import tell
from postmean.base.paths import local_path
from postmean.base.serialise import from_dict
from postmean.contract.process import AnyProcess
from postmean.training.checkpoint_files import check_files, whole_folder, write_errors
from postmean.training.diffusers_export import write_export
from postmean.training.model.networks import NetworkSettings
from postmean.training.model.preconditioning import Denoiser
from postmean.training.model.preconditionings import AnyPreconditioning
from postmean.training.network_files import apart, network_folder, read_network, read_weights, write_network

SCHEMA_VERSION = 1
FOLDER = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class DenoiserCard:
    """denoiser.json: how to use the network."""

    schema_version: int = SCHEMA_VERSION
    preconditioning: AnyPreconditioning
    time_conditioning: str
    """Input of the network's time embedding."""
    consistency: bool
    """Whether the network is a consistency function, rather than a denoiser."""
    process: AnyProcess
    image_shape: tuple[int, int, int]
    """C, H, W"""
    classes: int
    """0 for an unconditional network."""
    has_null_class: bool = False
    """Whether class number `classes` stands for none: it was trained with label dropout."""
    images_seen: int


@dataclass(frozen=True, kw_only=True)
class AveragedDenoiser:
    """What a checkpoint is for: a network with the averaged weights, and how to build and use it."""

    network: nn.Module
    settings: NetworkSettings
    card: DenoiserCard


def save_checkpoint(
    run: Path, averaged: AveragedDenoiser, tensors: dict[str, torch.Tensor], place: dict[str, int], keep: int
) -> Path:
    """Write RUN/checkpoints/STEP atomically, then remove all but the newest `keep`.

    Args:
        tensors: raw weights and optimiser state, see `postmean.training.training_state`.
        place: step and next_tuple.
    Raises:
        DataError: it cannot be written.
    """
    with needs("train"):
        from safetensors.torch import save_file

    final = checkpoint_of(run, place["step"])
    with whole_folder(final) as temporary:
        write_network(temporary, averaged.network, averaged.settings)
        write_export(temporary, averaged.network, averaged.card)
        (temporary / "denoiser.json").write_bytes(to_json(averaged.card))
        save_file(apart(tensors), temporary / "state.safetensors")
        (temporary / "state.json").write_bytes(to_json(place))
    with write_errors(final):
        for old in complete_checkpoints(run)[:-keep]:
            shutil.rmtree(old)
    return final


def complete_checkpoints(run: Path) -> list[Path]:
    """The run's checkpoints by rising step."""
    folder = run / FOLDER
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted((p for p in entries if re.fullmatch(r"\d{8,}", p.name)), key=step_of)


def remove_partial(run: Path) -> None:
    """Remove partial checkpoints of killed runs."""
    remove_leftovers(run / FOLDER)


def checkpoint_of(run: Path, step: int) -> Path:
    """Folder of the run's checkpoint of this step."""
    return run / FOLDER / f"{step:08d}"


def step_of(checkpoint: Path) -> int:
    """Training steps done at a checkpoint of a run."""
    return int(checkpoint.name)


def load_state(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The tensors to resume training from; DataError where they are missing, damaged or of another step."""
    with needs("train"):
        from safetensors.torch import load_file

    check_files(checkpoint, "state.safetensors")
    read_place(checkpoint)
    try:
        return load_file(checkpoint / "state.safetensors")
    except Exception as error:  # safetensors raises its own kinds
        raise DataError(f"{checkpoint}: not a whole checkpoint ({error}): remove it, the one before is used") from error


def read_place(checkpoint: Path) -> dict[str, int]:
    """`step` and `next_tuple` of a checkpoint; DataError where they are missing, damaged or not those of its name."""
    check_files(checkpoint, "state.json")
    place = parse_json((checkpoint / "state.json").read_bytes())
    if re.fullmatch(r"\d{8,}", checkpoint.name) and place["step"] != step_of(checkpoint):
        raise DataError(f"{checkpoint}: holds step {place['step']}: it was renamed: name it {place['step']:08d}")
    return place


def newest_whole(run: Path) -> Path | None:
    """The newest checkpoint of the run that is not damaged; None where the run has none at all. Says what it passes by.

    Raises:
        DataError: all are damaged.
    """
    checkpoints = complete_checkpoints(run)
    for checkpoint in reversed(checkpoints):
        try:
            check_files(checkpoint)
            read_place(checkpoint)
            return checkpoint
        except DataError as error:
            if checkpoint == checkpoints[0]:
                raise
            tell("checkpoint damaged", f"{error}", checkpoint=str(checkpoint), message=str(error))
    return None


def set_aside_after(run: Path, step: int) -> None:
    """Rename the checkpoints of later steps, which are damaged, to NAME.damaged: training will write them again."""
    for checkpoint in complete_checkpoints(run):
        if step_of(checkpoint) > step:
            aside = checkpoint.with_name(f"{checkpoint.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.rename(aside)


def find_checkpoint(path: Path | str) -> Path:
    """A checkpoint folder itself, or the newest one of a run's folder; DataError where there is none."""
    path = local_path(path)
    if os.path.isfile(path / "denoiser.json"):
        return path
    checkpoints = complete_checkpoints(path)
    if not checkpoints:
        raise DataError(f"{path}: neither a checkpoint nor a run with one: pass the --out folder of `postmean train`")
    return checkpoints[-1]


def read_card(path: Path | str) -> DenoiserCard:
    """The card of a checkpoint, or of the newest checkpoint of a run; DataError where it cannot be used."""
    file = find_checkpoint(path) / "denoiser.json"
    check_files(file.parent, file.name)
    try:
        plain = parse_json(file.read_bytes())
    except JsonError as error:
        raise DataError(f"{file}: not JSON ({error}): take another checkpoint") from error
    try:
        check_schema(plain, SCHEMA_VERSION)
    except JsonError as error:
        raise DataError(f"{file}: {error}: take another checkpoint") from error
    try:
        card = from_dict(DenoiserCard, plain, str(file))
    except ConfigError as error:
        raise DataError(str(error)) from error
    if card.time_conditioning != card.preconditioning.time_conditioning:
        raise DataError(f"{file}: time_conditioning {card.time_conditioning!r} is not that of its preconditioning")
    return card


def load_denoiser(
    path: Path | str, device: torch.device | str = "cpu", network: Any = None, ema: float | None = None
) -> Denoiser:
    """The averaged denoiser of a checkpoint or run, in evaluation mode: mean = D(z, sigma) or D(z, sigma, label).

    Args:
        network: the network, if it is one of your own: the module, or the function of (image_shape, classes) that makes
            it, or the settings, as given to `train`. A module gets the weights of the checkpoint.
        ema: relative width of another average, which is made of the run's snapshots; None: that of the checkpoint.
    Raises:
        DataError: there is no checkpoint, or it is damaged, or the run has no snapshots for `ema`.
        ConfigError: `network` is missing, or not needed, or no average can have the width `ema`.
        MismatchError: `network` is another one than the checkpoint's.
    """
    checkpoint, card = find_checkpoint(path), read_card(path)
    check_files(checkpoint, f"{network_folder(checkpoint).name}/")
    made = read_network(checkpoint, card.image_shape, card.classes + card.has_null_class, network)
    if ema is not None:
        from postmean.training.snapshots import reconstruct

        made.load_state_dict(reconstruct(checkpoint.parent.parent, ema, card.images_seen))
    return Denoiser(made, card.preconditioning).to(device).eval().requires_grad_(False)


def load_averages(path: Path | str) -> dict[str, torch.Tensor]:
    """The averaged weights of a checkpoint or run by name; DataError where they are missing or damaged."""
    checkpoint = find_checkpoint(path)
    check_files(checkpoint, f"{network_folder(checkpoint).name}/")
    return read_weights(checkpoint)
