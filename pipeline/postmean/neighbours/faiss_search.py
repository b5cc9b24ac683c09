"""Searches by FAISS indexes over a store, on CPU or GPU.

Vectors are raw pixels 0..255: the 8-bit scalar quantiser with the range [-1/2, 254 1/2] stores them without loss, and
distances are 127.5 times those in x. (FAISS's QT_8bit_direct rounds and wraps queries too: wrong for noisy ones.)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from postmean.base.errors import ConfigError, DataError
from postmean.base.files import move_into_place, temporary_file
from postmean.contract.image_store import ImageStore
from postmean.engine.population import SCALE, Population
from postmean.neighbours.cards import read_card, write_card
from postmean.neighbours.faiss_gpu import check_here, to_gpu
from postmean.neighbours.faiss_spec import FaissSpec, load_faiss
from postmean.neighbours.search import Neighbours, sharpen

_CHUNK = 8192  # vectors added or trained on at a time


def index_path(store: ImageStore, spec: FaissSpec, flips: bool) -> Path:
    """Path of a store's index."""
    return store.path / "index" / f"{spec.name}{'-flips' if flips else ''}.faiss"


def built_index(store: ImageStore, spec: FaissSpec, flips: bool) -> Path:
    """Path of a store's index; DataError if it was not built."""
    path = index_path(store, spec, flips)
    if store.remote is not None:
        store.remote.fetch_index(path.name)
    if not path.is_file():
        raise DataError(f"{path}: no such index: {_remedy(store, spec, flips)}")
    return path


def trained(store: ImageStore, spec: FaissSpec, flips: bool) -> Any:
    """An empty index, a faiss.Index, with its partitions if it has any."""
    faiss = load_faiss()
    index = spec.create(store.dim)
    entries = len(store) * (2 if flips else 1)
    if spec.lists:
        if spec.lists > entries:
            raise ConfigError(f"index {spec.name}: {spec.lists} lists for {entries} entries: ask for fewer")
        # FAISS would draw its own 256 vectors per list; with a fixed sample every build gives the same index
        sample = np.random.Generator(np.random.Philox(key=0)).permutation(entries)[: spec.sample(entries)]
        index.cp.seed = 0
        index.train(_vectors(store, np.sort(sample)))
    if spec.name.endswith("sq8"):
        # code = floor(pixel + 1/2), decoded as code: lossless; trained quantiles would clip
        faiss.copy_array_to_vector(np.array([-0.5, 255.0], np.float32), index.sq.trained)
        index.is_trained = True
    return index


def to_bytes(index: Any) -> bytes:
    """A faiss.Index as bytes."""
    return load_faiss().serialize_index(index).tobytes()


def from_bytes(data: bytes) -> Any:
    """A faiss.Index of bytes whose hash was found right: FAISS takes most damaged ones."""
    return load_faiss().deserialize_index(np.frombuffer(data, np.uint8))


def add_vectors(
    index: Any, store: ImageStore, spec: FaissSpec, flips: bool, progress: Callable[[int], None] = lambda done: None
) -> Path:
    """Add all entries to a trained index and write it beside the store.

    Args:
        progress: called with the number of entries added so far.
    """
    faiss = load_faiss()
    entries = len(store) * (2 if flips else 1)
    for start in range(0, entries, _CHUNK):
        stop = min(start + _CHUNK, entries)
        index.add(_vectors(store, np.arange(start, stop)))
        progress(stop)
    path = index_path(store, spec, flips)
    try:
        with temporary_file(path) as temporary:
            faiss.write_index(index, str(temporary))
            move_into_place(temporary, path)
        write_card(path, made_from(store, spec, flips))
    except OSError as error:
        raise DataError(f"{path.parent}: cannot write: {error.strerror}: free space or make it writable") from error
    if store.remote is not None:
        store.remote.share_index(path)
    return path


def build(store: ImageStore, spec: FaissSpec, flips: bool) -> Path:
    """Build an index over all entries in this process and write it beside the store."""
    return add_vectors(trained(store, spec, flips), store, spec, flips)


class FaissSearch:
    """Search by a FAISS index built with `postmean index`.

    With an inverted file the search is approximate: at large sigma it can return fewer than k neighbours.

    Args:
        population: all entries of the store (an index has no classes).
        nprobe: partitions of an inverted file to search.
    """

    def __init__(self, population: Population, spec: FaissSpec, nprobe: int) -> None:
        if population.label is not None:
            raise ConfigError(f"index {spec.name}: conditional targets need --index exact: it is exact and cheap there")
        self.population, self._spec = population, spec
        on_gpu = population.device != "cpu"
        if on_gpu:
            check_here(spec, population)
        index = _read(population, spec)
        if spec.lists:
            index.nprobe = min(nprobe, spec.lists)
        self._index = to_gpu(index, spec) if on_gpu else index

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
    card = read_card(path, remedy)  # first: FAISS takes most damaged files, and answers with other neighbours
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)  # the actors of a machine share its pages
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: damaged ({str(error).splitlines()[0]}): {remedy}") from error
    if card != made_from(store, spec, population.flips) or (index.ntotal, index.d) != (
        len(population),
        store.dim,
    ):
        raise DataError(f"{path}: built from other images than the store's, or of another kind: {remedy}")
    return index


def made_from(store: ImageStore, spec: FaissSpec, flips: bool) -> dict[str, Any]:
    """What an index is made from."""
    return {"store_fingerprint": store.header.fingerprint, "index": spec.name, "flips": flips}


def _remedy(store: ImageStore, spec: FaissSpec, flips: bool) -> str:
    return f"build it with `postmean index {store.where} --index {spec.name}{' --flips' if flips else ''}`"


def _vectors(store: ImageStore, entries: np.ndarray) -> np.ndarray:
    return store.pixels(entries).reshape(len(entries), store.dim).astype(np.float32)
