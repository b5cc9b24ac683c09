"""Light models: the averaged weights alone, to keep many of. OUT/models/STEP is read as a checkpoint is.

Niedoba et al. 2024, App. E.1, choose the best of 164 checkpoints by FID.
"""

import copy
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from postmean.base.json_files import JsonError, parse_json, to_json
from postmean.base.log import tell
from postmean.training.checkpoint import AveragedDenoiser
from postmean.training.checkpoint_files import whole_folder
from postmean.training.network_files import write_network

FOLDER = "models"
BEST = "best"
"""Link to the model with the lowest FID."""
Stored = Literal["fp16", "fp32"]


def save_model(out: Path, step: int, averaged: AveragedDenoiser, stored: Stored) -> Path:
    """Write the averaged weights of a step, whole or not at all; those of this step are replaced.

    Args:
        stored: fp16 takes half the space; what is loaded is fp32 again.
    Raises:
        DataError: it cannot be written.
    """
    final, network = model_of(out, step), averaged.network
    if stored == "fp16":
        network = copy.deepcopy(network)
        for weight in network.parameters():  # not the buffers: those of embeddings are frequencies
            weight.data = weight.data.half()
    with whole_folder(final) as temporary:
        write_network(temporary, network, averaged.settings)
        (temporary / "denoiser.json").write_bytes(to_json(averaged.card))
    return final


def model_of(out: Path, step: int) -> Path:
    """Folder of the light model of a step."""
    return out / FOLDER / f"{step:08d}"


def mark_best(out: Path) -> None:
    """Let OUT/best lead to the model with the lowest FID among the lines of metrics.jsonl, if there is one."""
    scored = [(scores["fid"], step) for step, scores in scores_of(out).items() if model_of(out, step).is_dir()]
    if not scored:
        return
    fid, step = min(scored)
    link, new = out / BEST, out / f".{BEST}.partial"
    if link.is_symlink() and link.readlink().name == f"{step:08d}":
        return
    tell("best model", f"best so far: FID {fid:.4g} of step {step:,}: {model_of(out, step)}", step=step, fid=fid)
    with suppress(OSError):  # a file system without links
        new.unlink(missing_ok=True)
        os.symlink(Path(FOLDER) / f"{step:08d}", new)
        os.replace(new, link)


def scores_of(out: Path) -> dict[int, dict[str, Any]]:
    """The scores in a run's metrics.jsonl, by step."""
    found = {}
    for line in (out / "metrics.jsonl").read_bytes().splitlines():
        with suppress(JsonError, KeyError, TypeError):
            plain = parse_json(line)
            found[int(plain["step"])] = dict(plain["scores"])
    return found
