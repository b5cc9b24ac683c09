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
"""single is the usual target; the others are estimators of the mean. heun-M averages exact means over M sub-steps."""
RECIPES = ("edm", "flow", "ict", "ect")
VERSION = 2
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
    """The recipe's own, floor, `18 levels` (a grid that does not grow), `to 0` (steps to sigma 0), or `8 4 2 1` (grids
    of so many steps, each for a quarter of the training)."""
    steps: int = 700
    batch: int = 32
    width: int = 256

    @property
    def label(self) -> str:
        """What differs from the recipe with this target."""
        parts = [self.target]
        parts += [f"k {self.k} n {self.n}"] if self.target == "knn-snis" and (self.k, self.n) != (64, 64) else []
        parts += [f"beta {self.beta:g}"] if self.beta != 1 else []
        parts += [] if self.noise == "recipe" else [f"noise {self.noise}"]
        return ", ".join(parts)

    @property
    def substeps(self) -> int:
        """M of the target heun-M, else 0."""
        return int(self.target.removeprefix("heun-")) if self.target.startswith("heun-") else 0

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
            (iCT with several k and n: the paper's Figure 4), distillation (see `distillation`).
    """
    cells: list[Cell] = []
    for part in parts:
        for seed in range(seeds):
            edm = Cell(data=data, recipe="edm", target="exact", seed=seed, steps=steps)
            ict = replace(edm, recipe="ict", target="knn-snis")
            cells += {
                "targets": lambda base: [replace(base, recipe=r, target=t) for r in RECIPES for t in TARGETS],
                "dial": lambda base: [
                    replace(base, target="single"),
                    *(replace(base, beta=b) for b in (0.25, 0.5, 0.75, 1.0)),
                ],
                "noise": lambda base: [
                    replace(base, noise=n, target=t) for n in ("recipe", "floor") for t in ("single", "exact")
                ],
                "distillation": lambda base: list(distillation(base).values()),
                "sweep": lambda base, ict=ict: [
                    replace(ict, target="single"),
                    *(replace(ict, k=k, n=n) for k in (8, 64, 512) for n in (8, 64)),
                ],
            }[part](edm)
    return list(dict.fromkeys(cells))


def distillation(base: Cell) -> dict[str, Cell]:
    """One-step models of a seed, by what makes them; the first is what the others are compared with.

    Args:
        base: any cell of the data set, seed and number of steps.
    """
    ict = replace(base, recipe="ict", target="single", noise="recipe", beta=1.0)
    return {
        "consistency training (iCT)": ict,
        "the same, twice the steps": replace(ict, steps=2 * ict.steps),
        "the same on 18 levels": replace(ict, noise="18 levels"),
        "consistency distillation on 18 levels, heun-4": replace(ict, noise="18 levels", target="heun-4"),
        "distillation of the ODE's end, heun-8": replace(ict, recipe="ect", noise="to 0", target="heun-8"),
        "progressive distillation 8-4-2-1, heun-4": replace(ict, recipe="edm", noise="8 4 2 1", target="heun-4"),
    }
