"""Cells of a report: one method at one sigma, each saved as a small JSON file, so that a stopped report can resume."""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from postmean.base.files import write_file
from postmean.base.json_files import JsonError, read_sealed_json, to_sealed_json
from postmean.base.serialise import to_dict
from postmean.contract.manifest import code_version
from postmean.report.settings import Method, ReportSettings

PARTS = "parts"
_VERSION = 2  # of the meaning of a cell: a new version computes all cells anew


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Errors of one method at one sigma, averaged over the points; per dimension, in units of x in [-1, 1] squared.

    `_se` is the standard error of the average over the points. Each error of the score
    (mean - z) / sigma^2 is that of the mean divided by sigma^4.
    """

    method: Method
    sigma: float
    mse: float
    mse_se: float
    bias2: float
    """Unbiased: it can be below 0 where it is small compared with the variance over the repeats"""
    bias2_se: float
    variance: float
    variance_se: float
    posterior_variance: float
    """Variance of the exact posterior, the same for every method"""
    neighbours_found: float | None = None
    """Neighbours that the search found, at most k (knn estimators)"""
    recall: float | None = None
    """Share of the k nearest that were found"""
    missed_mass: float | None = None
    """Exact posterior mass beyond the neighbours found"""
    estimated_tail: float | None = None
    """The estimator's own estimate of that mass"""


class CellStore:
    """Cells on disk, FOLDER/parts/<name>.json, named by a hash of everything they depend on.

    Args:
        network: identity of the trained network, None without one.
    """

    def __init__(self, folder: Path, fingerprint: str, settings: ReportSettings, network: str | None) -> None:
        self._folder = folder / PARTS
        self._common: dict[str, Any] = {
            "version": _VERSION,
            "code": code_version(),
            "store": fingerprint,
            **{name: getattr(settings, name) for name in ("points", "repeats", "seed", "flips")},
        }
        self._tolerance, self._network = settings.tolerance, network

    def path(self, method: Method, sigma: float) -> Path:
        """File of the cell."""
        key = self._common | {"method": to_dict(method), "sigma": sigma}
        if method.estimator == "auto":
            key["tolerance"] = self._tolerance
        if method.estimator == "network":
            key["network"] = self._network
        return self._folder / f"{method.estimator}-{sigma:g}-{digest(key)}.json"

    def read(self, method: Method, sigma: float) -> Cell | None:
        """The cell, None where there is none yet or the file is damaged."""
        path = self.path(method, sigma)
        try:
            cell = read_sealed_json(Cell, path.read_bytes(), str(path))
        except (OSError, JsonError):
            return None
        return cell if (cell.method, cell.sigma) == (method, sigma) else None

    def write(self, cell: Cell) -> None:
        """Save the cell; it appears whole or not at all."""
        write_file(self.path(cell.method, cell.sigma), to_sealed_json(cell))


def digest(key: Any) -> str:
    """16 hex digits of the hash of a plain object."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


CELL_NUMBERS = tuple(f.name for f in fields(Cell) if f.name not in ("method", "sigma"))
"""Names of the numbers of a cell."""
