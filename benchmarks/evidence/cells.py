"""The cells of the evidence: data set, recipe, target and seed; each one's result is a JSON file."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from postmean.base.files import write_file
from postmean.base.serialise import to_dict
from postmean.training.presets import PRESETS

TARGETS = ("single", "stf", "knn-snis", "exact")
"""single is the usual target; the others are estimators of the mean."""
RECIPES = ("edm", "flow", "ict", "ect")
VERSION = 1
"""Of what a cell means: a new one computes all cells again."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training."""

    data: str
    recipe: str
    target: str
    seed: int
    k: int = 64
    """Neighbours of knn-snis: 4 % of the digits, as 2 048 are of CIFAR-10."""
    n: int = 64
    """Draws of knn-snis and of stf."""
    beta: float = 1.0
    """target = x + beta (mean - x)"""
    noise: str = "recipe"
    """The recipe's own, or floor."""
    steps: int = 700
    batch: int = 32
    width: int = 256

    @property
    def label(self) -> str:
        """What differs from the recipe with this target."""
        parts = [self.target]
        parts += [f"k {self.k} n {self.n}"] if self.target == "knn-snis" and (self.k, self.n) != (64, 64) else []
        parts += [f"beta {self.beta:g}"] if self.beta != 1 else []
        return ", ".join([*parts, *(["noise floor"] if self.noise == "floor" else [])])

    def path(self, out: Path) -> Path:
        """Its file."""
        preset = PRESETS.get(self.recipe)  # cells of another loss are other cells; real images have none
        parts = (preset.loss, preset.preconditioning) if preset else ()
        recipe = [[part.kind, to_dict(part)] for part in parts]
        key = json.dumps([VERSION, asdict(self), recipe], sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:10]
        return out / "cells" / f"{self.data}-{self.recipe}-{self.target}-{self.seed}-{digest}.json"

    def read(self, out: Path) -> dict[str, Any] | None:
        """The result; None where there is none yet."""
        path = self.path(out)
        return json.loads(path.read_bytes()) if path.exists() else None

    def write(self, out: Path, result: dict[str, Any]) -> None:
        """Save the result."""
        path = self.path(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps({"cell": asdict(self), **result}, indent=1).encode())


def wanted(data: str, seeds: int, steps: int, parts: tuple[str, ...]) -> list[Cell]:
    """The cells of a data set, seed by seed, so that a stopped job has all targets of the seeds that it has.

    Args:
        parts: of targets (every recipe with every target), dial (EDM with beta), noise (EDM with --noise floor), sweep
            (iCT with several k and n: the paper's Figure 4).
    """
    cells: list[Cell] = []
    for part in parts:
        for seed in range(seeds):
            edm = Cell(data=data, recipe="edm", target="exact", seed=seed, steps=steps)
            ict = replace(edm, recipe="ict", target="knn-snis")
            cells += {
                "targets": lambda base: [replace(base, recipe=r, target=t) for r in RECIPES for t in TARGETS],
                "dial": lambda base: [replace(base, beta=beta) for beta in (0.25, 0.5, 0.75)],
                "noise": lambda base: [replace(base, noise="floor", target=t) for t in ("single", "exact")],
                "sweep": lambda base, ict=ict: [replace(ict, k=k, n=n) for k in (8, 64, 512) for n in (8, 64)],
            }[part](edm)
    return list(dict.fromkeys(cells))
