"""What this machine can do, and what to install or change; quick, so it loads torch only where there is a GPU."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import socket
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from postmean.base.cores import machine_cores, usable_cores
from postmean.base.environment import cluster_address
from postmean.base.memory import usable_memory
from postmean.contract.manifest import code_version

_SHOWN = (
    *("POSTMEAN_LOG", "POSTMEAN_STORAGE_DEADLINE", "POSTMEAN_TOKEN_PATH", "RAY_ADDRESS", "RAY_TMPDIR"),
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "AWS_PROFILE", "AWS_REGION", "NO_COLOR"),
)
"""Environment variables that change what commands do and hold no secret."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine can do."""

    postmean: str
    python: str
    system: str
    cores: int
    """That this process may use."""
    cores_of_machine: int
    memory_bytes: int | None
    """That this process may use."""
    memory_free_bytes: int | None
    shm_free_bytes: int | None
    disk_free_bytes: dict[str, int]
    """Of the working folder, and of the folder of temporary files."""
    gpus: list[str]
    torch: str
    """Version, and what it was built for."""
    faiss: str
    ray: str
    ray_address: str
    """Cluster that runs use, and whether it answers; empty: they start Ray here."""
    extras: dict[str, list[str]]
    """Packages that each extra still needs; none where it is installed."""
    environment: dict[str, str]
    problems: list[str]
    """What keeps commands from working or slows them down, with the remedy; one line each."""


def examine() -> Machine:
    """Look at this machine."""
    memory = usable_memory() or (None, None)
    shm = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else None
    disks = {name: shutil.disk_usage(name).free for name in (os.getcwd(), tempfile.gettempdir())}
    has_gpu = Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia").exists()
    gpus = _gpus() if has_gpu else []
    faiss = {name: version for name in ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs") if (version := _version(name))}
    address = cluster_address()
    extras = {extra: _lacking(extra) for extra in _extras()}
    found: dict[str, Any] = {
        "memory_bytes": memory[0],
        "memory_free_bytes": memory[1],
        "shm_free_bytes": shm,
        "disk_free_bytes": disks,
        "gpus": gpus,
        "torch": _torch(),
        "faiss": ", ".join(f"{name} {version}" for name, version in faiss.items()) or "none",
        "ray": _version("ray") or "none",
        "ray_address": f"{address}: {_answer(address)}" if address else "",
        "extras": extras,
    }
    return Machine(
        postmean=code_version(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        cores=usable_cores(),
        cores_of_machine=machine_cores(),
        environment={name: value for name, value in os.environ.items() if name in _SHOWN},
        problems=[*_problems(found, list(faiss), has_gpu)],
        **found,
    )


def _problems(found: dict[str, Any], faiss: list[str], has_gpu: bool) -> list[str]:
    free, shm, address = found["memory_free_bytes"], found["shm_free_bytes"], found["ray_address"]
    lacking = {extra for extra, packages in found["extras"].items() if packages}
    checks = (
        (has_gpu and not found["gpus"], "a GPU is there, and torch does not see it: install a torch built for CUDA and "
         "a driver that is new enough for it (`nvidia-smi` shows the driver's)"),
        (len(faiss) > 1, f"{' and '.join(faiss)} are both installed, over each other: uninstall both, install one"),
        (bool(found["gpus"]) and faiss == ["faiss-cpu"], "FAISS is built for CPUs: for --index other than exact on the "
         "GPU, pip uninstall faiss-cpu, then pip install 'postmean[faiss-gpu]' or, for CUDA 13, [faiss-gpu-cuvs]"),
        (free is not None and free < 2e9, "less than 2 GB of memory are free: Ray takes 0.5 GB, each actor some 0.5 GB "
         "and its share of the images"),
        (shm is not None and shm < 2e8, "/dev/shm has less than 200 MB: give the container more (docker run "
         "--shm-size=2g), as Ray's store is there"),
        (min(found["disk_free_bytes"].values()) < 1e9, "less than 1 GB of a disk is free"),
        (address.endswith("no answer"), f"RAY_ADDRESS {address}: start the cluster, or unset it to run here"),
        ("generate" in lacking, "import, generate and serve: pip install 'postmean[generate]'"),
        ("train" in lacking, "train and sample: pip install 'postmean[train]'"),
    )  # fmt: skip
    return [said for is_so, said in checks if is_so]


def _gpus() -> list[str]:
    """Name and memory of each GPU that torch sees."""
    import torch

    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [f"{each.name}, {each.total_memory / 1e9:.0f} GB" for each in devices]


def _torch() -> str:
    """Version of torch and what it was built for, from its files: loading it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return "none"
    text = Path(spec.origin).with_name("version.py").read_text()
    built = {name: value for name, value in re.findall(r"^(cuda|hip)\b.*= '([^']+)'", text, re.MULTILINE)}
    kinds = [f"{'CUDA' if name == 'cuda' else 'ROCm'} {value}" for name, value in built.items()]
    return f"{_version('torch')}, built for {kinds[0] if kinds else 'CPUs'}"


def _answer(address: str) -> str:
    """Whether something listens at the address of a Ray cluster."""
    if address == "auto":
        return "Ray looks for one on this machine"
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 6379), timeout=1):
            return "something listens there"
    except (OSError, ValueError):
        return "no answer"


def _extras() -> list[str]:
    try:
        listed = importlib.metadata.metadata("postmean").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        return []  # a checkout that is not installed
    return [extra for extra in listed if extra not in ("all", "dev")]


def _lacking(extra: str) -> list[str]:
    """Packages of an extra that are not installed."""
    marked = (text.partition(";") for text in importlib.metadata.requires("postmean") or [])
    needed = {
        re.split(r"[^\w.-]", text.strip(), maxsplit=1)[0]
        for text, _, marker in marked
        if f"extra == '{extra}'" in marker
    }
    return sorted(name for name in needed if _version(name) is None)


@cache
def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
