"""What a checkpoint and a training run hold. Weights are not loaded, and nothing is unpickled."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from postmean.base.errors import DataError
from postmean.base.serialise import to_dict
from postmean.training.checkpoint import complete_checkpoints, find_checkpoint, read_card, read_place
from postmean.training.checkpoint_files import check_files
from postmean.training.diffusers_export import export_of
from postmean.training.network_files import UNET, network_folder, weight_files

_LONGEST_HEADER = 100_000_000
"""Bytes, as in the safetensors library."""


@dataclass(frozen=True, kw_only=True)
class CheckpointView:
    """What a checkpoint holds, once its hashes are found right."""

    path: str
    step: int
    next_tuple: int
    weights: int
    """Of the averaged network."""
    tensors: int
    card: dict[str, Any]
    """How to use the network: denoiser.json."""
    diffusers: str
    """What diffusers samples from it with, or why it cannot."""
    files: dict[str, int]
    """Bytes by path below the checkpoint."""
    checkpoints: list[str]
    """All of the training run, if `path` is one."""


def inspect_checkpoint(path: Path) -> CheckpointView:
    """Look at a checkpoint, or at the newest of a training run; DataError if it is damaged."""
    checkpoint = find_checkpoint(path)
    check_files(checkpoint)
    place, card = read_place(checkpoint), read_card(checkpoint)
    shapes = {name: shape for file in weight_files(checkpoint) for name, shape in _shapes(file).items()}
    files = sorted(file for file in checkpoint.rglob("*") if file.is_file())
    return CheckpointView(
        path=str(checkpoint),
        step=place["step"],
        next_tuple=place["next_tuple"],
        weights=sum(map(prod, shapes.values())),
        tensors=len(shapes),
        card=to_dict(card),
        diffusers=str(export_of(card, network_folder(checkpoint).name == UNET)),
        files={file.relative_to(checkpoint).as_posix(): file.stat().st_size for file in files},
        checkpoints=[each.name for each in complete_checkpoints(path)],
    )


def _shapes(path: Path) -> dict[str, list[int]]:
    """Shape of each tensor in a safetensors file, from its header alone, which is JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        return {name: list(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a safetensors file ({error}): take another checkpoint") from error
