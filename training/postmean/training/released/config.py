"""Settings of `postmean import-weights`. No torch here, so that its --help is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class ImportWeightsConfig:
    """What to read, and where to write it."""

    file: Annotated[Path, tyro.conf.Positional]
    """Snapshot of EDM or EDM2, such as edm-cifar10-32x32-uncond-vp.pkl."""
    out: Path
    """Folder of the checkpoint, which must not exist: for `train --init`, `sample` and `evaluate`."""
