"""FAISS on a GPU: what it refuses, what fits, and the copy of an index there.

A FAISS built with cuVS (faiss-gpu-cuvs) searches flat vectors with cuVS, which takes 16 384 neighbours and partitions.
FAISS itself takes 2 048. It searches inverted files of bytes in every build.
"""

from importlib.util import find_spec
from typing import Any

import torch

from postmean.base.errors import ConfigError
from postmean.engine.pixels import RESERVE, gpu_tile_rows, padded_size
from postmean.engine.population import Population
from postmean.neighbours.faiss_spec import FaissSpec, load_faiss

_MOST, _MOST_OF_CUVS = 2048, 16_384
TEMPORARY = 1536 << 20
"""Bytes that FAISS keeps on a GPU for its temporaries."""


def check_kind(spec: FaissSpec) -> None:
    """Raise ConfigError for an index that FAISS has on a CPU alone."""
    if spec.name == "sq8":
        raise ConfigError(
            "index sq8: FAISS has it on a CPU alone: use ivf<lists>-sq8, --index exact, which needs no FAISS, "
            "or --device cpu"
        )


def check_search(spec: FaissSpec, k: int, nprobe: int) -> None:
    """Raise ConfigError for more neighbours or partitions than FAISS takes on a GPU."""
    most = _MOST_OF_CUVS if _uses_cuvs(spec) else _MOST
    for flag, value in (("--k", k), ("--nprobe", nprobe if spec.lists else 1)):
        if value > most:
            raise ConfigError(f"{flag} {value}: FAISS on a GPU takes at most {most}: lower it or pass --index exact")


def check_here(spec: FaissSpec, population: Population) -> None:
    """Raise ConfigError unless this machine's FAISS and GPU take the index of this population."""
    check_kind(spec)
    _check_build(spec)
    _check_room(spec, population, torch.cuda.mem_get_info(population.device)[1])


def _check_build(spec: FaissSpec) -> None:
    """Raise ConfigError if the installed FAISS was built without GPUs."""
    if not hasattr(load_faiss(), "StandardGpuResources"):
        cuda = (torch.version.cuda or "12").partition(".")[0]
        extra = "faiss-gpu" if cuda == "12" else "faiss-gpu-cuvs"
        raise ConfigError(
            f"index {spec.name}: the installed FAISS has no GPU: pip uninstall faiss-cpu, then "
            f"pip install 'postmean[{extra}]', which goes with this torch (CUDA {cuda}), or pass --index exact"
        )


def _check_room(spec: FaissSpec, population: Population, memory: float) -> None:
    """Raise ConfigError unless an index fits on a GPU of so many bytes beside the pixels."""
    size, beside = spec.size(len(population), population.dim), _beside(population)
    if size + beside <= memory:
        return
    smaller = FaissSpec(f"ivf{spec.lists or round(4 * len(population) ** 0.5)}-sq8")
    fits = smaller.size(len(population), population.dim) + beside <= memory
    raise ConfigError(
        f"index {spec.name}: {size / 1e9:.1f} GB, beside {beside / 1e9:.1f} GB of pixels and workspace, on a GPU of "
        f"{memory / 1e9:.1f} GB: use {f'{smaller.name}, ' if fits else ''}--index exact, which needs no index, "
        "or --device cpu"
    )


def to_gpu(index: Any, spec: FaissSpec) -> Any:
    """A copy of the index on torch's current GPU, a faiss.GpuIndex."""
    faiss = load_faiss()
    options = faiss.GpuClonerOptions()
    options.use_cuvs = _uses_cuvs(spec)
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), torch.cuda.current_device(), index, options)


def _beside(population: Population) -> float:
    """Bytes that a GPU needs beside an index: at least the pixels as bytes."""
    rows, columns = padded_size(len(population.images), population.dim, torch.float16)
    tile = min(rows, gpu_tile_rows(population.dim)) * columns
    return rows * columns + 4 * tile + population.workspace_bytes + RESERVE + TEMPORARY


def _uses_cuvs(spec: FaissSpec) -> bool:
    return spec.is_flat and is_cuvs_build()  # cuVS has no scalar quantiser: FAISS would refuse to copy it


def is_cuvs_build() -> bool:
    """Whether the installed FAISS was built with cuVS; it has a file that says so."""
    return find_spec("faiss._cuvs_build") is not None
