"""Exact resume: what is kept between two calls of `train`, and whether a run may be resumed."""

import re
import secrets
from pathlib import Path
from typing import Any

import torch
from torch import nn

from postmean.base.errors import DataError, MismatchError
from postmean.base.files import write_file
from postmean.base.json_files import JsonError, parse_json, to_json
from postmean.base.serialise import differences, to_dict
from postmean.contract.manifest import Manifest
from postmean.training.config import FREE_FIELDS, TrainConfig

CONFIG = "config.json"
# manifest fields that say how targets are stored or computed, not what they are; and the recipe, which the stream
# compares with the trainer's
_FREE_TARGET_FIELDS = ("recipe", "tuples", "segments", "code_version", "threads_per_actor", "device")
_FREE_SHARD_FIELDS = ("format", "records_per_shard")


def check_same_run(out: Path, config: TrainConfig, manifest: Manifest) -> None:
    """Raise MismatchError if OUT holds a run with another config or other targets, DataError if it is unreadable."""
    path = out / CONFIG
    if not path.exists():
        return
    try:
        plain = parse_json(path.read_bytes())
        before_config, before_targets = plain["config"], identity_of(plain["targets"])
    except (JsonError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not the config of a run ({error}): pass another --out") from error
    # as JSON: tuples are lists in the file
    differing = [d for d in differences(to_dict(config), before_config) if d[0].split(".")[0] not in FREE_FIELDS]
    differing += [
        (f"targets.{name}", ours, theirs)
        for name, ours, theirs in differences(identity_of(manifest.to_dict()), before_targets)
    ]
    if differing:
        listed = "; ".join(f"{name} is {theirs!r} there, {ours!r} here" for name, ours, theirs in differing)
        raise MismatchError(f"{out}: holds another run: {listed}: pass the same settings or another --out")


def identity_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The part of a manifest, a plain tree, that decides the targets. Extending the run does not change it."""
    fixed = {name: value for name, value in manifest.items() if name not in _FREE_TARGET_FIELDS}
    fixed["shards"] = {name: value for name, value in manifest["shards"].items() if name not in _FREE_SHARD_FIELDS}
    return fixed


def trainer_name(out: Path) -> str:
    """Name of the trainer in runs that it follows: the one in config.json, else its folder's name and a random part."""
    try:
        name = parse_json((out / CONFIG).read_bytes())["trainer"]
        if isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9-]{1,80}", name):
            return name
    except (OSError, JsonError, KeyError, TypeError):
        pass
    return f"{re.sub('[^A-Za-z0-9]+', '-', out.resolve().name)[:60].strip('-')}-{secrets.token_hex(4)}"


def write_config(out: Path, config: TrainConfig, manifest: Manifest, trainer: str, **paths: str) -> None:
    """Write OUT/config.json: the resolved config, the manifest of the targets, the paths, and the trainer's name."""
    plain = {"config": to_dict(config), "targets": manifest.to_dict(), "paths": paths, "trainer": trainer}
    write_file(out / CONFIG, to_json(plain))


def training_tensors(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Weights and optimiser state by name, on the CPU."""
    tensors = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def restore(network: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of `training_tensors`."""
    network.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
