"""Snapshots of the power-function averages of a run, and the average of any width made of them.

RUN/snapshots/00001000/SIGMA_REL.safetensors  weights of one average after 1000 steps, such as 0.05.safetensors
RUN/snapshots/00001000/snapshot.json          images seen
RUN/snapshots/00001000/files.json             SHA-256 of these files

Karras et al. 2024, Sec. 3.2. The last snapshot has the widths that it was made with exactly.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from postmean.base.errors import DataError
from postmean.base.extras import needs
from postmean.base.json_files import parse_json, to_json
from postmean.training.checkpoint_files import check_files, whole_folder
from postmean.training.model.ema.power import PowerEMA
from postmean.training.model.ema.reconstruction import coefficients
from postmean.training.network_files import apart

FOLDER = "snapshots"
_SUFFIX = ".safetensors"


def save_snapshot(run: Path, step: int, images: int, averages: Mapping[PowerEMA, torch.nn.Module]) -> Path:
    """Write RUN/snapshots/STEP atomically; DataError where it cannot be written."""
    with needs("train"):
        from safetensors.torch import save_file

    final = run / FOLDER / f"{step:08d}"
    with whole_folder(final) as temporary:
        for ema, network in averages.items():
            state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
            save_file(apart(state), temporary / f"{ema.sigma_rel:g}{_SUFFIX}")
        (temporary / "snapshot.json").write_bytes(to_json({"images": images}))
    return final


def reconstruct(run: Path, sigma_rel: float, last_images: int) -> dict[str, torch.Tensor]:
    """The weights of the average of relative width `sigma_rel`, as of the last snapshot up to `last_images` images.

    Raises:
        ConfigError: no average can have this width.
        DataError: there are no snapshots, or they are damaged.
    """
    wanted = PowerEMA(sigma_rel=sigma_rel)
    stored = [entry for folder in _folders(run) for entry in _entries(folder) if entry[1] <= last_images]
    if not stored:
        raise DataError(f"{run / FOLDER}: no snapshots: train with --ema power --snapshot-every N, or leave --ema out")
    images = np.array([entry[1] for entry in stored], np.float64)
    gamma = np.array([entry[2].gamma for entry in stored])
    factors = coefficients(images, gamma, images.max(), wanted.gamma)
    total: dict[str, torch.Tensor] = {}
    for (file, _, _), factor in zip(stored, factors, strict=True):
        for name, tensor in _load(file).items():
            if tensor.is_floating_point():
                # sums in float64: the factors alternate in sign
                total[name] = total.get(name, torch.zeros((), dtype=torch.float64)) + factor * tensor.double()
            else:
                total[name] = tensor
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in total.items()}


def _folders(run: Path) -> list[Path]:
    folder = run / FOLDER
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(entry for entry in entries if re.fullmatch(r"\d{8,}", entry.name))


def _entries(folder: Path) -> list[tuple[Path, int, PowerEMA]]:
    """(file, images, average) of each average in a snapshot."""
    check_files(folder)
    images = parse_json((folder / "snapshot.json").read_bytes())["images"]
    files = sorted(folder.glob(f"*{_SUFFIX}"))
    return [(file, images, PowerEMA(sigma_rel=float(file.name.removesuffix(_SUFFIX)))) for file in files]


def _load(file: Path) -> dict[str, torch.Tensor]:
    with needs("train"):
        from safetensors.torch import load_file

    return load_file(file)
