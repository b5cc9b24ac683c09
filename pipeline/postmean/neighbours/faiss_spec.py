"""FAISS indexes by name: flat, sq8, ivfN-flat, ivfN-sq8 (Niedoba et al. 2024, App. D.5)."""

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from postmean.base.errors import ConfigError
from postmean.base.extras import needs

DISTRIBUTIONS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")
"""Each installs the module faiss."""


@dataclass(frozen=True)
class FaissSpec:
    """An index by name: flat, sq8, ivf<lists>-flat, ivf<lists>-sq8."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"flat|sq8|ivf[1-9][0-9]*-(flat|sq8)", self.name):
            raise ConfigError(
                f"index {self.name!r}: expected exact, flat, sq8, ivf<lists>-flat or ivf<lists>-sq8 (as ivf4527-sq8)"
            )

    @property
    def lists(self) -> int:
        """Partitions of an inverted file, 0 without one."""
        return int(self.name.split("-")[0][3:]) if self.name.startswith("ivf") else 0

    @property
    def is_flat(self) -> bool:
        """Whether vectors are kept in float32, not in bytes."""
        return self.name.endswith("flat")

    def sample(self, entries: int) -> int:
        """Number of entries that partitions are trained on."""
        return min(64 * self.lists, entries)

    def size(self, entries: int, dim: int) -> int:
        """Bytes of the index, as a file and in memory."""
        return entries * ((4 if self.is_flat else 1) * dim + (8 if self.lists else 0)) + 4 * self.lists * dim

    def create(self, dim: int) -> Any:
        """An empty faiss.Index."""
        faiss = load_faiss()
        bytes_ = faiss.ScalarQuantizer.QT_8bit_uniform
        if not self.lists:
            return faiss.IndexFlatL2(dim) if self.is_flat else faiss.IndexScalarQuantizer(dim, bytes_)
        coarse = faiss.IndexFlatL2(dim)
        if self.is_flat:
            return faiss.IndexIVFFlat(coarse, dim, self.lists)
        return faiss.IndexIVFScalarQuantizer(coarse, dim, self.lists, bytes_, faiss.METRIC_L2, False)


def load_faiss() -> Any:
    """The module faiss, set to as many threads as torch.

    Raises:
        ConfigError: it is not installed, or two packages that install it are.
    """
    installed = [name for name in DISTRIBUTIONS if _is_installed(name)]
    if len(installed) > 1:
        raise ConfigError(
            f"{' and '.join(installed)} are installed, and each overwrites the module faiss of the other: "
            f"pip uninstall {' '.join(installed)}, then install one of them"
        )
    with needs("faiss"):
        import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
