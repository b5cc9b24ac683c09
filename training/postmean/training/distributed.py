"""This process among those that torchrun started; without torchrun it is rank 0 of 1."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from postmean.base import errors
from postmean.base.device import choose_device, usable_device
from postmean.base.errors import MismatchError, PostmeanError
from postmean.base.serialise import differences

T = TypeVar("T")

MARGIN_SECONDS = 1800.0
"""How long a process waits for another one that starts, writes a checkpoint, or waits for a storage."""
_LONGEST_SECONDS = 1e8


class RankLost(PostmeanError):
    """Another process of the training ended or does not answer."""

    exit_code = 1


@dataclass(frozen=True)
class World:
    """This process and its device. Use it as a `with` block: at its end the process leaves the group."""

    rank: int
    size: int
    device: torch.device
    control: Any = None
    """Group for messages between the processes' hosts (gloo); it does not wait for devices."""

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    @classmethod
    def join(cls, device: str = "auto", wait_seconds: float = 0.0) -> "World":
        """Join the other processes if torchrun started this one.

        Args:
            device: auto (a CUDA device where there is one), cpu, or cuda.
            wait_seconds: longest time that a process may wait for its targets while the others wait for it. NCCL's
                own limit is ten minutes, after which its watchdog kills the processes.
        """
        here = device_of(device)
        if "WORLD_SIZE" not in os.environ:
            return cls(0, 1, here)
        timeout = timedelta(seconds=min(wait_seconds, _LONGEST_SECONDS) + MARGIN_SECONDS)
        dist.init_process_group("nccl" if here.type == "cuda" else "gloo", timeout=timeout)
        control = dist.new_group(backend="gloo", timeout=timeout) if here.type == "cuda" else dist.group.WORLD
        return cls(dist.get_rank(), dist.get_world_size(), here, control)

    def __enter__(self) -> "World":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        if not dist.is_initialized():
            return
        if kind is not None and self.device.type == "cuda" and dist.group.WORLD is not None:
            # after an exception, destroying an NCCL group would wait forever for unfinished operations; destroying a
            # gloo group does not wait, and aborting it would leave its threads running
            dist.group.WORLD.abort()
        else:
            dist.destroy_process_group()

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over the processes."""
        if self.size == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=devices)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def check_same(self, where: str, remedy: str, **ours: Any) -> None:
        """Check that `ours`, plain trees by name, is the same in every process. Every process must call this.

        Raises:
            MismatchError: it is not. Raised in every process, with the names of what differs.
        """
        if self.size == 1:
            return
        everyone = [json.loads(text) for text in self._texts(json.dumps(ours))]
        for rank, theirs in enumerate(everyone):
            differing = differences(everyone[0], theirs)
            if differing:
                listed = "; ".join(f"{name} is {a!r} at rank 0, {b!r} at rank {rank}" for name, a, b in differing)
                raise MismatchError(f"{where}: {listed}: {remedy}")

    def led(self, call: Callable[[], T]) -> T:
        """What `call` returns in the leading process, a plain tree, in every process. Every process must call this.

        Raises:
            PostmeanError: the leading process raised it; raised in every process.
        """
        if self.size == 1:
            return call()
        outcome: dict[str, Any] = {}
        if self.leads:
            try:
                outcome["value"] = call()
            except PostmeanError as error:
                outcome["error"] = [type(error).__name__, str(error), error.exit_code]
        outcome = json.loads(self._texts(json.dumps(outcome))[0])
        if "error" in outcome:
            kind, message, exit_code = outcome["error"]
            told = getattr(errors, kind, PostmeanError)(message)
            told.exit_code = exit_code
            raise told
        return outcome["value"]

    def agree(self, *values: int) -> list[int]:
        """The largest of each value over the processes. Every process must call this; it waits for no device."""
        if self.size == 1:
            return list(values)
        largest = torch.tensor(values)
        with _others_answer():
            dist.all_reduce(largest, dist.ReduceOp.MAX, self.control)
        return largest.tolist()

    def _texts(self, ours: str) -> list[str]:
        """The text of every process, gathered as byte tensors: objects would be pickled."""
        data = torch.frombuffer(bytearray(ours.encode()), dtype=torch.uint8)
        size = torch.tensor([len(data)])
        sizes = [torch.zeros_like(size) for _ in range(self.size)]
        with _others_answer():
            dist.all_gather(sizes, size, self.control)
            longest = max(int(each) for each in sizes)
            texts = [data.new_zeros(longest) for _ in range(self.size)]
            dist.all_gather(texts, nn.functional.pad(data, (0, longest - len(data))), self.control)
        return [bytes(text[: int(n)].tolist()).decode() for text, n in zip(texts, sizes, strict=True)]

    def gathered(self, ours: np.ndarray) -> list[np.ndarray]:
        """The arrays of all processes, by rank; all have one shape and type. Every process must call this."""
        if self.size == 1:
            return [ours]
        tensor = torch.from_numpy(ours)
        everyone = [torch.empty_like(tensor) for _ in range(self.size)]
        with _others_answer():
            dist.all_gather(everyone, tensor, self.control)
        return [each.numpy() for each in everyone]

    def wait(self) -> None:
        """Wait until every process is here."""
        self.agree(0)


@contextmanager
def _others_answer() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of gloo: connection closed, or no answer in time
        raise RankLost(
            f"another process of this training ended or does not answer: see its message ({error})"
        ) from error


def device_of(name: str) -> torch.device:
    """The device of this process; a CUDA device becomes the current one.

    Args:
        name: auto (cuda where there is one, else cpu), cpu, cuda (the device of this local rank), or such as cuda:1.
    Raises:
        ConfigError: no such device here.
    """
    name = choose_device(name)
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    device = usable_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
