"""Machines by name: those that are not this one, with what their vendors' data sheets say of them.

Nothing here is measured. A record is two int8 matrix products over the population, so that the int8 rate (dense, that
is without sparsity) and the memory's bandwidth are what counts; of either an actor is assumed to get a share.
"""

import re
from dataclasses import dataclass

from postmean.base.errors import ConfigError

PEAK_SHARE = 0.3
"""Assumed of the int8 rate: tiles of 16 MB fill a large GPU a little more than half, and each waits for its launch."""
BANDWIDTH_SHARE = 0.5
"""Assumed of the memory's bandwidth."""
NETWORK_SHARE = 0.25
"""Assumed of a node's network: what shared storage gives it."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine. Rates are of one GPU, or of all CPUs where there is none."""

    gpus: int
    cpus: int
    int8_per_second: float
    """Operations, two a multiply-add."""
    memory_bytes_per_second: float
    device_bytes: int
    """Memory of one GPU, 0 where there is none."""
    host_bytes: int
    network_bits_per_second: float


NODES = {
    # NVIDIA H100 Tensor Core GPU Datasheet (SXM): 1 979 TOPS, 3.35 TB/s, 80 GB; Amazon EC2 P5 (p5.48xlarge)
    "8-h100": Node(
        gpus=8,
        cpus=192,
        int8_per_second=1979e12,
        memory_bytes_per_second=3350e9,
        device_bytes=80 * 10**9,
        host_bytes=2048 << 30,
        network_bits_per_second=3200e9,
    ),
    # NVIDIA A100 80GB Tensor Core GPU Datasheet (SXM): 624 TOPS, 2 039 GB/s, 80 GB; Amazon EC2 P4 (p4de.24xlarge)
    "8-a100": Node(
        gpus=8,
        cpus=96,
        int8_per_second=624e12,
        memory_bytes_per_second=2039e9,
        device_bytes=80 * 10**9,
        host_bytes=1152 << 30,
        network_bits_per_second=400e9,
    ),
    # NVIDIA L40S Datasheet: 733 TOPS, 864 GB/s, 48 GB; Amazon EC2 G6e (g6e.2xlarge), as in ray_cluster.yaml
    "1-l40s": Node(
        gpus=1,
        cpus=8,
        int8_per_second=733e12,
        memory_bytes_per_second=864e9,
        device_bytes=48 * 10**9,
        host_bytes=64 << 30,
        network_bits_per_second=20e9,
    ),
    # Intel 64 and IA-32 Architectures Optimization Reference Manual: AMX does 2 048 int8 operations a cycle and core;
    # Amazon EC2 C7i (c7i.16xlarge): 32 cores of 2 threads at 3.2 GHz, of 48 that share eight channels of DDR5-4800
    "c7i": Node(
        gpus=0,
        cpus=64,
        int8_per_second=32 * 3.2e9 * 2048,
        memory_bytes_per_second=307e9 * 32 / 48,
        device_bytes=0,
        host_bytes=128 << 30,
        network_bits_per_second=25e9,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Some machines of one kind."""

    name: str
    nodes: int
    node: Node

    @classmethod
    def parse(cls, name: str) -> "Machines":
        """NODESxKIND, such as 2x8-h100 or 16xc7i; ConfigError for anything else."""
        found = re.fullmatch(r"([1-9]\d{0,4})x(.+)", name)
        if found is None or found[2] not in NODES:
            raise ConfigError(
                f"--fleet {name}: expected here, or a number of nodes and their kind, as 2x8-h100; "
                f"kinds are {', '.join(NODES)}"
            )
        return cls(name=name, nodes=int(found[1]), node=NODES[found[2]])

    def actors(self, threads: int) -> int:
        """Actors it holds: one a GPU, or as many as the CPUs hold."""
        return self.nodes * (self.node.gpus or max(1, self.node.cpus // threads))

    def product_seconds(self, threads: int, dim: int, queries: int) -> float:
        """Seconds of one actor for the log-weight of one member and query: a product of two bytes by D pixels.

        Args:
            queries: queries that share a pass over the pixels, which are read, made int8, written and read again; the
                product itself is written once and read twice, in four bytes.
        """
        actors = 1 if self.node.gpus else max(1, self.node.cpus // threads)
        operations = self.node.int8_per_second / actors * PEAK_SHARE
        bandwidth = self.node.memory_bytes_per_second / actors * BANDWIDTH_SHARE
        return max(4 * dim / operations, (3 * dim / queries + 24) / bandwidth)
