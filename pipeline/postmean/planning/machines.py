"""Machines by name, other than this one, with figures from their vendors' data sheets.

A record takes two matrix products over the population, so the matrix rate (dense, that is without sparsity) and the
memory bandwidth decide; an actor is assumed to reach a share of each. A GPU multiplies in float16, a CPU in int8.
"""

import re
from dataclasses import dataclass

from postmean.base.errors import ConfigError

PEAK_SHARE = 0.35
"""Assumed share of the matrix rate. One H200 reached 0.33 to 0.44 of its 989 TFLOP/s (docs/gpu.md)."""
BANDWIDTH_SHARE = 0.5
"""Assumed share of the memory bandwidth."""
NETWORK_SHARE = 0.25
"""Assumed share of a node's network rate: what it gets from shared storage."""
_ENTERED_BYTES = 120
"""Memory traffic of a GPU for each distance that the self-join counts and compares: by benchmarks/gpu_budgets.py."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine. Rates are those of one GPU, or of all CPUs if there is no GPU."""

    gpus: int
    cpus: int
    operations_per_second: float
    """Of float16 products on a GPU, of int8 products on CPUs; a multiply-add is two."""
    memory_bytes_per_second: float
    device_bytes: int
    """Memory of one GPU, 0 if there is none."""
    host_bytes: int
    network_bits_per_second: float


NODES = {
    # NVIDIA H200 Tensor Core GPU Datasheet (SXM): 989 TFLOPS, 4.8 TB/s, 141 GB; Amazon EC2 P5 (p5en.48xlarge)
    "8-h200": Node(
        gpus=8,
        cpus=192,
        operations_per_second=989e12,
        memory_bytes_per_second=4800e9,
        device_bytes=141 * 10**9,
        host_bytes=2048 << 30,
        network_bits_per_second=3200e9,
    ),
    # NVIDIA H100 Tensor Core GPU Datasheet (SXM): 989 TFLOPS, 3.35 TB/s, 80 GB; Amazon EC2 P5 (p5.48xlarge)
    "8-h100": Node(
        gpus=8,
        cpus=192,
        operations_per_second=989e12,
        memory_bytes_per_second=3350e9,
        device_bytes=80 * 10**9,
        host_bytes=2048 << 30,
        network_bits_per_second=3200e9,
    ),
    # NVIDIA A100 80GB Tensor Core GPU Datasheet (SXM): 312 TFLOPS, 2 039 GB/s, 80 GB; Amazon EC2 P4 (p4de.24xlarge)
    "8-a100": Node(
        gpus=8,
        cpus=96,
        operations_per_second=312e12,
        memory_bytes_per_second=2039e9,
        device_bytes=80 * 10**9,
        host_bytes=1152 << 30,
        network_bits_per_second=400e9,
    ),
    # NVIDIA L40S Datasheet: 362 TFLOPS, 864 GB/s, 48 GB; Amazon EC2 G6e (g6e.2xlarge), as in ray_cluster.yaml
    "1-l40s": Node(
        gpus=1,
        cpus=8,
        operations_per_second=362e12,
        memory_bytes_per_second=864e9,
        device_bytes=48 * 10**9,
        host_bytes=64 << 30,
        network_bits_per_second=20e9,
    ),
    # Intel 64 and IA-32 Architectures Optimization Reference Manual: AMX does 2 048 int8 operations per cycle and core;
    # Amazon EC2 C7i (c7i.16xlarge): 32 cores of 2 threads at 3.2 GHz, out of 48 that share 8 channels of DDR5-4800
    "c7i": Node(
        gpus=0,
        cpus=64,
        operations_per_second=32 * 3.2e9 * 2048,
        memory_bytes_per_second=307e9 * 32 / 48,
        device_bytes=0,
        host_bytes=128 << 30,
        network_bits_per_second=25e9,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Machines:
    """One or more machines of one kind."""

    name: str
    nodes: int
    node: Node

    @classmethod
    def parse(cls, name: str) -> "Machines":
        """NODESxKIND, such as 2x8-h100 or 16xc7i; ConfigError for anything else."""
        match = re.fullmatch(r"([1-9]\d{0,4})x(.+)", name)
        if match is None or match[2] not in NODES:
            raise ConfigError(
                f"--fleet {name}: expected here, or a number of nodes and their kind, as 2x8-h100; "
                f"kinds are {', '.join(NODES)}"
            )
        return cls(name=name, nodes=int(match[1]), node=NODES[match[2]])

    def actors(self, threads: int) -> int:
        """Number of actors they hold: one per GPU, or as many as the CPUs hold."""
        return self.nodes * (self.node.gpus or max(1, self.node.cpus // threads))

    def product_seconds(self, threads: int, dim: int, queries: int) -> float:
        """Seconds that one actor needs per member and query for a log-weight: the product of z with D pixels.

        A GPU takes one float16 product, and reads the pixels once a pass. A CPU takes int8 products of two bytes of z;
        it reads pixels, writes them as int8 and reads these. Products are written once and read twice, in four bytes.

        Args:
            queries: queries that share a pass over the pixels.
        """
        operations = self.node.operations_per_second * PEAK_SHARE
        bandwidth = self.node.memory_bytes_per_second * BANDWIDTH_SHARE
        if self.node.gpus:
            return max(2 * dim / operations, (2 * dim / queries + 12) / bandwidth)
        actors = max(1, self.node.cpus // threads)
        return actors * max(4 * dim / operations, (3 * dim / queries + 24) / bandwidth)

    def distance_seconds(self, dim: int) -> float:
        """Seconds that one GPU needs per pair of images in the self-join; one CPU, for its int8 product alone.

        A GPU multiplies int8 twice as fast as float16.
        """
        operations = self.node.operations_per_second * PEAK_SHARE
        if self.node.gpus:
            return dim / operations + _ENTERED_BYTES / (self.node.memory_bytes_per_second * BANDWIDTH_SHARE)
        return self.node.cpus * 2 * dim / operations
