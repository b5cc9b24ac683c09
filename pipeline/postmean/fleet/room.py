"""How many actors the nodes of a cluster have room for."""

import sys
from collections.abc import Mapping, Sequence

from postmean.base.errors import ConfigError
from postmean.base.progress import byte_size


def actors_that_fit(nodes: Sequence[Mapping[str, float]], cpus: int, gpus: int, memory: int) -> int:
    """Actors that there is room for, at least 1: an autoscaler may bring nodes.

    Args:
        nodes: Ray's resources of each node: CPU, GPU, and memory in bytes.
        cpus, gpus, memory: what an actor asks of its node.
    Raises:
        ConfigError: there are nodes with so many CPUs and GPUs, and none of them has the memory.
    """
    by_cores = [min(_times(node, "CPU", cpus), _times(node, "GPU", gpus)) for node in nodes]
    offered = [node.get("memory", 0.0) for node, fit in zip(nodes, by_cores, strict=True) if fit]
    if offered and max(offered) < memory:
        raise ConfigError(
            f"an actor needs {byte_size(memory)} of memory, and of the cluster's nodes that could take one the largest "
            f"offers {byte_size(max(offered))}: add larger nodes, or pass --memory-per-actor"
        )
    by_memory = [_times(node, "memory", memory) for node in nodes]
    return max(1, sum(map(min, by_cores, by_memory)))


def _times(node: Mapping[str, float], resource: str, asked: int) -> int:
    """How often the node has what is asked of a resource."""
    return int(node.get(resource, 0)) // asked if asked else sys.maxsize
