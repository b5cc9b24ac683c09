"""FAISS indexes over a store: flat, sq8, ivfN-flat, ivfN-sq8 (Niedoba et al. 2024, App. D.5), on CPU or GPU.

Vectors are raw pixels 0..255: the 8-bit scalar quantiser with the range [-1/2, 254 1/2] stores them without loss, and
distances are 127.5 times those in x. (FAISS's QT_8bit_direct rounds and wraps queries too: wrong for noisy ones.)
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from postmean.base.errors import ConfigError, DataError
from postmean.base.extras import needs
from postmean.base.files import move_into_place, temporary_file
from postmean.contract.image_store import ImageStore
from postmean.engine.population import SCALE, Population
from postmean.neighbours.cards import read_card, write_card
from postmean.neighbours.search import Neighbours, sharpen

_GPU_MOST = 2048  # neighbours and partitions that FAISS searches on a GPU, unless built with cuVS
_GPU_TEMPORARY = 1536 << 20  # bytes that FAISS keeps on a GPU for its temporaries
_CHUNK = 8192  # vectors added or trained on at a time


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

    def size(self, entries: int, dim: int) -> int:
        """Bytes of the index, as a file and where it is mapped."""
        value = 4 if self.name.endswith("flat") else 1
        return entries * (value * dim + (8 if self.lists else 0)) + 4 * self.lists * dim

    def size_on_gpu(self, entries: int, dim: int) -> int:
        """Bytes that the index takes on a GPU."""
        return self.size(entries, dim) + _GPU_TEMPORARY

    def check_on_gpu(self, k: int, nprobe: int) -> None:
        """Raise ConfigError for what FAISS refuses on a GPU: known before an actor starts."""
        if self.name == "sq8":
            raise ConfigError(
                "index sq8: FAISS has it on a CPU alone: use ivf<lists>-sq8, --index exact, which needs no FAISS, "
                "or --device cpu"
            )
        for flag, value in (("--k", k), ("--nprobe", nprobe if self.lists else 1)):
            if value > _GPU_MOST:
                raise ConfigError(
                    f"{flag} {value}: FAISS on a GPU takes at most {_GPU_MOST}: lower it or pass --index exact"
                )

    def create(self, dim: int) -> Any:
        """An empty faiss.Index."""
        faiss = load_faiss()
        storage = self.name.split("-")[-1]
        bytes_ = faiss.ScalarQuantizer.QT_8bit_uniform
        if not self.lists:
            return faiss.IndexFlatL2(dim) if storage == "flat" else faiss.IndexScalarQuantizer(dim, bytes_)
        coarse = faiss.IndexFlatL2(dim)
        if storage == "flat":
            return faiss.IndexIVFFlat(coarse, dim, self.lists)
        return faiss.IndexIVFScalarQuantizer(coarse, dim, self.lists, bytes_, faiss.METRIC_L2, False)


def load_faiss() -> Any:
    """The module faiss, set to as many threads as torch; ConfigError if it is not installed."""
    with needs("faiss"):
        import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def index_path(store: ImageStore, spec: FaissSpec, flips: bool) -> Path:
    """Path of a store's index."""
    return store.path / "index" / f"{spec.name}{'-flips' if flips else ''}.faiss"


def built_index(store: ImageStore, spec: FaissSpec, flips: bool) -> Path:
    """Path of a store's index; DataError if it was not built."""
    path = index_path(store, spec, flips)
    if not path.is_file():
        raise DataError(f"{path}: no such index: {_remedy(store, spec, flips)}")
    return path


def build(store: ImageStore, spec: FaissSpec, flips: bool, progress: Callable[[int], None] = lambda done: None) -> Path:
    """Build the index over all entries and write it beside the store.

    Args:
        progress: called with the number of entries added so far.
    """
    faiss = load_faiss()
    index = spec.create(store.dim)
    entries = len(store) * (2 if flips else 1)
    if spec.lists:
        if spec.lists > entries:
            raise ConfigError(f"index {spec.name}: {spec.lists} lists for {entries} entries: ask for fewer")
        # FAISS would draw its own 256 vectors per list; with a fixed sample every build gives the same index
        sample = np.random.Generator(np.random.Philox(key=0)).permutation(entries)[: 64 * spec.lists]
        index.cp.seed = 0
        index.train(_vectors(store, np.sort(sample)))
    if spec.name.endswith("sq8"):
        # code = floor(pixel + 1/2), decoded as code: lossless; trained quantiles would clip
        faiss.copy_array_to_vector(np.array([-0.5, 255.0], np.float32), index.sq.trained)
        index.is_trained = True
    for start in range(0, entries, _CHUNK):
        stop = min(start + _CHUNK, entries)
        index.add(_vectors(store, np.arange(start, stop)))
        progress(stop)
    path = index_path(store, spec, flips)
    with temporary_file(path) as temporary:
        faiss.write_index(index, str(temporary))
        move_into_place(temporary, path)
    write_card(path, _made_from(store, spec, flips))
    return path


class FaissSearch:
    """Search by a FAISS index built with `postmean index`.

    With an inverted file the search is approximate: at large sigma it can return fewer than k neighbours.

    Args:
        population: all entries of the store (an index has no classes).
        nprobe: partitions of an inverted file to search.
    """

    def __init__(self, population: Population, spec: FaissSpec, nprobe: int) -> None:
        faiss = load_faiss()

        if population.label is not None:
            raise ConfigError(f"index {spec.name}: conditional targets need --index exact: it is exact and cheap there")
        self.population, self._spec = population, spec
        index = _read(population, spec)
        if spec.lists:
            index.nprobe = min(nprobe, spec.lists)
        if population.device != "cpu":
            if not hasattr(faiss, "StandardGpuResources"):
                raise ConfigError(f"index {spec.name}: this FAISS has no GPU: install faiss-gpu or pass --index exact")
            index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), torch.cuda.current_device(), index)
        self._index = index

    @property
    def is_exact(self) -> bool:
        return self._spec.lists == 0

    def search(self, z: torch.Tensor, sigma: np.ndarray, k: int) -> Neighbours:
        k = min(k, len(self.population))
        query = ((z + 1) * SCALE).cpu().numpy()
        distance2, member = self._index.search(np.ascontiguousarray(query, np.float32), k)
        # float32: a distance is made of terms as large as |z|^2 and |x|^2 <= D, each rounded a few times
        size = z.to(torch.float64).square().sum(1).cpu().numpy() + self.population.dim
        error = 8 * np.finfo(np.float32).eps * size / (2 * sigma**2)
        distance2 = distance2.astype(np.float64) / SCALE**2
        return Neighbours(*sharpen(self.population, z, sigma, member.astype(np.int64), distance2, error))


def _read(population: Population, spec: FaissSpec) -> Any:
    """The stored index of a population, a faiss.Index; DataError if it is missing, damaged or of other images."""
    faiss = load_faiss()

    store = population.store
    path, remedy = built_index(store, spec, population.flips), _remedy(store, spec, population.flips)
    made_from = read_card(path, remedy)  # first: FAISS takes most damaged files, and answers with other neighbours
    try:
        index = faiss.read_index(str(path))
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: damaged ({str(error).splitlines()[0]}): {remedy}") from error
    if made_from != _made_from(store, spec, population.flips) or (index.ntotal, index.d) != (
        len(population),
        store.dim,
    ):
        raise DataError(f"{path}: built from other images than the store's, or of another kind: {remedy}")
    return index


def _made_from(store: ImageStore, spec: FaissSpec, flips: bool) -> dict[str, Any]:
    return {"store_fingerprint": store.header.fingerprint, "index": spec.name, "flips": flips}


def _remedy(store: ImageStore, spec: FaissSpec, flips: bool) -> str:
    return f"build it with `postmean index {store.path} --index {spec.name}{' --flips' if flips else ''}`"


def _vectors(store: ImageStore, entries: np.ndarray) -> np.ndarray:
    return store.pixels(entries).reshape(len(entries), store.dim).astype(np.float32)
