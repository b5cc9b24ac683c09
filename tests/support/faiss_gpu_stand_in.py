"""A stand-in for faiss-gpu and faiss-gpu-cuvs: it searches on the CPU, and refuses what they refuse.

By FAISS's GpuCloner.cpp and IndexUtils.cu: a GPU has flat vectors, and inverted files of vectors or bytes, but no flat
bytes; cuVS has no bytes at all. k and nprobe are at most 2 048, with cuVS 16 384.
"""

from typing import Any

import faiss
import numpy as np
import pytest

from postmean.neighbours import faiss_gpu


class GpuClonerOptions:
    """Options of `index_cpu_to_gpu`."""

    use_cuvs = False


class StandardGpuResources:
    """Memory and streams of a GPU."""


class GpuIndex:
    """An index that was copied to a GPU."""

    def __init__(self, index: faiss.Index, most: int) -> None:
        self._index, self._most = index, most

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 < k <= self._most:
            raise RuntimeError(f"GPU index only supports min/max-K selection up to {self._most} (requested {k})")
        nprobe = getattr(self._index, "nprobe", 1)
        if not 0 < nprobe <= self._most:
            raise RuntimeError(f"GPU IVF index only supports nprobe selection up to {self._most} (requested {nprobe})")
        return self._index.search(queries, k)


def index_cpu_to_gpu(
    resources: StandardGpuResources, device: int, index: faiss.Index, options: GpuClonerOptions
) -> GpuIndex:
    """As FAISS does it: by the kind of the index."""
    assert isinstance(resources, StandardGpuResources) and device == 0
    kind = faiss.downcast_index(index)  # of a view: the index must be kept
    if options.use_cuvs and not faiss_gpu.is_cuvs_build():
        raise RuntimeError("cuVS has not been compiled into the current version so it cannot be used.")
    if isinstance(kind, faiss.IndexIVFScalarQuantizer) and options.use_cuvs:
        raise RuntimeError("this type of index is not implemented for cuVS")
    if not isinstance(kind, (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer)):
        raise RuntimeError("This index type is not implemented on GPU.")
    return GpuIndex(index, 16_384 if options.use_cuvs else 2048)


def faiss_gpu_stand_in(monkeypatch: pytest.MonkeyPatch, cuvs: bool) -> None:
    """Make the installed faiss-cpu look like faiss-gpu, or with cuVS like faiss-gpu-cuvs."""
    names: dict[str, Any] = {
        "StandardGpuResources": StandardGpuResources,
        "GpuClonerOptions": GpuClonerOptions,
        "index_cpu_to_gpu": index_cpu_to_gpu,
    }
    for name, value in names.items():
        monkeypatch.setattr(faiss, name, value, raising=False)
    monkeypatch.setattr(faiss_gpu, "is_cuvs_build", lambda: cuvs)
