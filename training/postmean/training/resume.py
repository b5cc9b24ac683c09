"""config.json of a training run: how it began, with which settings, and whether a call may go on with it."""

import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postmean.base.errors import ConfigError, DataError, MismatchError
from postmean.base.files import write_file
from postmean.base.json_files import JsonError, parse_json, to_json
from postmean.base.log import tell
from postmean.base.serialise import differences, from_dict, to_dict
from postmean.contract.manifest import Manifest
from postmean.training.checkpoint import step_of
from postmean.training.config import FREE_FIELDS, TOLD_FIELDS, TrainConfig
from postmean.training.run_config import of_this_version

CONFIG = "config.json"
# manifest fields that say how targets are stored or computed, not what they are; and the recipe, which the stream
# compares with the trainer's
_FREE_TARGET_FIELDS = ("recipe", "tuples", "segments", "code_version", "threads_per_actor", "device")
_FREE_SHARD_FIELDS = ("format", "records_per_shard")


@dataclass(frozen=True, kw_only=True)
class Begun:
    """How a run begins, as config.json keeps it."""

    init: str = ""
    """Absolute path of the weights that it begins with; empty: random ones."""
    origin: str = ""
    """Absolute path of the checkpoint that it goes on from (--from); empty: tuple 0."""
    ranks: int = 1


NEW = Begun()
"""At tuple 0, with random weights, in one process."""


def check_same_run(
    out: Path, config: TrainConfig, manifest: Manifest, begun: Begun = NEW, checkpoint: Path | None = None
) -> None:
    """Raise MismatchError if OUT holds a run with another config, other targets or another beginning.

    Settings in which a run may change are told.

    Args:
        begun: how this call would begin a new run, and with how many ranks.
        checkpoint: the one of OUT to go on from, if any.
    Raises:
        DataError: config.json is missing beside checkpoints, or cannot be read.
    """
    path = out / CONFIG
    if not path.exists():
        if checkpoint:
            step = step_of(checkpoint)
            raise DataError(f"{path}: missing: go on with another --out and --from {out}@{step}, which needs no config")
        return
    try:
        plain = parse_json(path.read_bytes())
        config_before, targets_before = _complete(plain["config"]), identity_of(plain["targets"])
        paths, ranks = dict(plain["paths"]), plain.get("ranks")
    except (JsonError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: not the config of a run ({error}): pass another --out") from error
    # as JSON: tuples are lists in the file
    changes = differences(to_dict(config), config_before)
    differing = [change for change in changes if change[0].split(".")[0] not in FREE_FIELDS]
    differing += [
        (f"targets.{name}", ours, theirs)
        for name, ours, theirs in differences(identity_of(manifest.to_dict()), targets_before)
    ]
    for name, given in (("init", begun.init), ("from", begun.origin)):
        before = str(paths.get(name) or "")
        if given != before and (given or not checkpoint):
            differing.append((f"--{name}", given or "nothing", before or "nothing"))
    if differing:
        fork = f", which can go on from here with --from {out}@{step_of(checkpoint)}" if checkpoint else ""
        raise MismatchError(
            f"{out}: holds another run: {_listed(differing)}: pass the same settings or another --out{fork}"
        )
    if checkpoint:
        told = [change for change in changes if change[0] in TOLD_FIELDS]
        told += [("ranks", begun.ranks, ranks)] if ranks not in (None, begun.ranks) else []
        if told:
            said = f"{out}: {_listed(told)}: roundings and dropout masks differ from here on"
            tell("settings changed", said, settings={name: ours for name, ours, _ in told})


def _complete(config: dict[str, Any]) -> dict[str, Any]:
    """The config with the defaults of fields that the version that wrote it did not have."""
    config = of_this_version(config)
    try:
        return to_dict(from_dict(TrainConfig, config, CONFIG))
    except ConfigError:  # such as a loss of the user's own
        return config


def _listed(differing: list[tuple[str, Any, Any]]) -> str:
    return "; ".join(f"{name} is {theirs!r} there, {ours!r} here" for name, ours, theirs in differing)


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


def write_config(out: Path, config: TrainConfig, manifest: Manifest, begun: Begun, trainer: str, **paths: str) -> None:
    """Write OUT/config.json: the resolved config, the manifest of the targets, the paths, ranks and trainer's name.

    How the run began stays as it was written first.
    """
    paths |= {"init": begun.init, "from": begun.origin}
    with suppress(OSError, JsonError, KeyError, TypeError):
        before = parse_json((out / CONFIG).read_bytes())["paths"]
        paths |= {name: before[name] for name in ("init", "from") if name in before}
    plain = {"config": to_dict(config), "targets": manifest.to_dict(), "paths": paths}
    plain |= {"ranks": begun.ranks, "trainer": trainer}
    write_file(out / CONFIG, to_json(plain))
