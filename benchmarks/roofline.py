"""A roofline model of a GPU: what operations on tensors without values would cost it.

Under `on_model`, tensors have shapes, types and a device (torch's FakeTensorMode), so that a machine without a GPU runs
code of any size. Each operation is charged the bytes it reads and writes and the operations of matrix products. Its
time is the longest that bandwidth, arithmetic or launching it takes on an H100.
"""

import traceback
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

# H100 SXM: what large operations reach of its data sheet's 3.35 TB/s, 1 979 TOP/s, 989 and 67 TFLOP/s
BYTES_PER_SECOND = 2.6e12
OPERATIONS_PER_SECOND = {torch.int8: 0.65 * 1979e12, torch.float16: 0.65 * 989e12}
_OTHER_PER_SECOND = 0.65 * 67e12  # float32 and float64
LAUNCH_SECONDS = 5e-6

_PRODUCTS = {"_int_mm", "mm", "addmm", "bmm", "mv", "addmv"}
_GATHERS = {"index", "index_select"}  # read as much as they write
_TO_PYTHON = {"__bool__", "__float__", "__int__", "__index__", "item", "tolist", "numpy"}

Read = dict[str, bool | float]
"""What the host reads from the device, by the function that reads it; of a mask, the number of true elements."""


@dataclass
class Costs:
    """What the operations of a block cost."""

    bytes: Counter[str] = field(default_factory=Counter)
    """Read and written on the device, by operation"""
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By operation"""
    launches: int = 0
    syncs: int = 0
    """Waits of the host for the device"""
    live_bytes: int = 0
    peak_bytes: int = 0
    """Most bytes of tensors that were on the device at once"""

    @property
    def product_bytes(self) -> int:
        """Bytes of matrix products."""
        return sum(self.bytes[name] for name in _PRODUCTS)

    @property
    def product_share(self) -> float:
        """Share of matrix products in the time."""
        return sum(self.seconds[name] for name in _PRODUCTS) / sum(self.seconds.values())


@contextmanager
def on_model(read: Read) -> Iterator[Callable[[], Costs]]:
    """Within the block, operations on `cuda` are modelled; the value begins to count anew, and returns the counts."""
    with FakeTensorMode(allow_non_fake_inputs=True), _Operations() as operations, _ToHost(operations, read):
        yield operations.begin


class _Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.costs = Costs()
        self._alive: set[int] = set()

    def begin(self) -> Costs:
        self.costs = Costs(live_bytes=self.costs.live_bytes, peak_bytes=self.costs.live_bytes)
        return self.costs

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = [t for t in tree_flatten(result)[0] if _is_on_device(t)]
        read = {key: value for key, value in (kwargs or {}).items() if key != "out"}
        inputs = [t for t in tree_flatten((args, read))[0] if _is_on_device(t)]
        for tensor in outputs:
            self._count_storage(tensor.untyped_storage())
        name = func._overloadpacket.__name__
        if (name == "copy_" and not _is_on_device(args[0]) and inputs) or (
            name == "_to_copy" and inputs and not outputs
        ):
            self.costs.syncs += 1
        elif outputs and not func.is_view and "empty" not in name:
            self.charge(name, args, inputs, outputs)
        return result

    def charge(self, name: str, args: Any, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> None:
        written = sum(t.nbytes for t in outputs)
        read = sum({_place(t): t.nbytes for t in inputs}.values())
        if name in _GATHERS:
            read = written
        elif name.startswith("new_") or name.endswith("_like"):
            read = 0
        elif name == "copy_":  # its target is written only
            read = sum(t.nbytes for t in inputs[1:])
        arithmetic = 0.0
        if name in _PRODUCTS:
            left, right = args[1:3] if name.startswith("add") else args[:2]
            operations = 2.0 * left.numel() * (right.shape[-1] if right.dim() > 1 else 1)
            arithmetic = operations / OPERATIONS_PER_SECOND.get(left.dtype, _OTHER_PER_SECOND)
        self.costs.launches += 1
        self.costs.bytes[name] += read + written
        self.costs.seconds[name] += max((read + written) / BYTES_PER_SECOND, arithmetic, LAUNCH_SECONDS)

    def _count_storage(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self.costs.live_bytes += size
        self.costs.peak_bytes = max(self.costs.peak_bytes, self.costs.live_bytes)

        def freed() -> None:
            self._alive.discard(key)
            self.costs.live_bytes -= size

        weakref.finalize(storage, freed)


class _ToHost(TorchFunctionMode):
    """Answers what the host reads, as there are no values."""

    def __init__(self, operations: _Operations, read: Read) -> None:
        super().__init__()
        self._operations, self._read = operations, read

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if not args or not isinstance(args[0], FakeTensor):
            return func(*args, **(kwargs or {}))
        if name in ("nonzero", "bincount"):  # their results have sizes that the host reads
            self._operations.costs.syncs += 1
            shape = (int(self._answer()), args[0].dim()) if name == "nonzero" else (kwargs["minlength"],)
            result = args[0].new_empty(shape, dtype=torch.int64)
            self._operations.charge(name, args, [args[0]], [result])
            return result
        if name not in _TO_PYTHON:
            return func(*args, **(kwargs or {}))
        if name != "numpy":  # a copy to the host was counted already
            self._operations.costs.syncs += 1
            return float(self._answer()) if name == "__float__" else self._answer()
        dtype = torch.empty((), dtype=args[0].dtype, device="meta").dtype
        return np.full(tuple(args[0].shape), self._answer(), str(dtype).removeprefix("torch."))

    def _answer(self) -> bool | float:
        for frame in reversed(traceback.extract_stack()):
            if "/postmean/" in frame.filename:
                if frame.name not in self._read:
                    raise KeyError(f"{frame.filename}:{frame.lineno}: `{frame.name}` reads from the device: add it")
                return self._read[frame.name]
        raise KeyError("read outside of the package")


def _is_on_device(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == "cuda"


def _place(tensor: torch.Tensor) -> tuple[int, int, tuple[int, ...]]:
    """The same for tensors of the same elements."""
    return tensor.untyped_storage()._cdata, int(tensor.storage_offset()), tuple(tensor.shape)
