"""The flags that every command has, and the printing of a report as text or JSON."""

import dataclasses
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import FlagCreatePairsOff

from postmean.base.flags import FlagGroup
from postmean.base.progress import NoProgress, Progress, ShowProgress


@dataclass(frozen=True, kw_only=True)
class Output(FlagGroup):
    """Settings from and to files, the cache of stores, and what is printed."""

    config: Path | None = None
    """YAML or JSON file of settings, such as `postmean config` prints; flags override it."""
    save_config: Path | None = None
    """Write the settings of this call to this file, for --config: JSON if its name ends so, else YAML."""
    store_cache: Path | None = None
    """Folder for this node's copies of stores at URLs; default POSTMEAN_STORE_CACHE or ~/.cache/postmean/stores."""
    json: FlagCreatePairsOff[bool] = False
    """Print the report as one JSON document."""
    quiet: FlagCreatePairsOff[bool] = False
    """Say nothing on stderr but errors: no progress, no notes."""
    verbose: FlagCreatePairsOff[bool] = False
    """Also say on stderr what happens meanwhile, and where in the code an error comes from."""
    help_all: FlagCreatePairsOff[bool] = False
    """Show every flag."""

    @property
    def progress(self) -> ShowProgress:
        """Shows progress, unless --quiet."""
        return NoProgress if self.quiet else Progress

    def report(self, report: Any, text: str) -> None:
        """Print `text`, or with --json the report (a dataclass or plain object) as one JSON document, to stdout."""
        if self.json:
            plain = dataclasses.asdict(report) if dataclasses.is_dataclass(report) else report  # type: ignore[arg-type]
            text = json.dumps(_finite(plain), indent=1, allow_nan=False, default=str)
        sys.stdout.write(text.rstrip("\n") + "\n")


def _finite(plain: Any) -> Any:
    """The object with None in place of numbers that JSON cannot hold (nan, inf)."""
    if isinstance(plain, dict):
        return {key: _finite(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_finite(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
