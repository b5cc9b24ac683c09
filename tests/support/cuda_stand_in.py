"""A stand-in for a CUDA device: tensors that say `cuda:0` and hold their values in CPU memory.

It refuses what a GPU refuses: operations on tensors of both devices, and int8 products of sizes or layouts that cuBLAS
lacks or runs several times slower (rows by rows is 7 times slower on an H200, and refused by other versions). It counts
launches, synchronisations and copies by the line of the package that causes them, and live bytes.
"""

import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from tests.support.backward import backward

_CUDA, _CPU = torch.device("cuda", 0), torch.device("cpu")
_HOST_INDEX = {"index", "index_put_", "index_put", "_index_put_impl_"}  # take index tensors of the CPU too
_SYNCHRONISE = {"nonzero", "bincount", "unique", "equal"}
_TO_PYTHON = {"__float__", "__int__", "__bool__", "__index__", "item", "tolist"}


@dataclass
class Counts:
    """What happened on the device."""

    launches: Counter[str] = field(default_factory=Counter)
    """Operations that are not views, by line"""
    syncs: Counter[str] = field(default_factory=Counter)
    """Waits of the host for the device, by line"""
    live_bytes: int = 0
    peak_bytes: int = 0
    free_bytes: int = 80 << 30
    """What `torch.cuda.mem_get_info` says is free."""


COUNTS = Counts()


class DeviceTensor(torch.Tensor):
    """A tensor of the stand-in; `inner` holds its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "DeviceTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=_CUDA,
            requires_grad=inner.requires_grad,
        )
        made.inner = inner
        _count_storage(inner.untyped_storage())
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"DeviceTensor({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, dict(kwargs or {}))


def _dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._overloadpacket.__name__
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    target = kwargs.get("device")
    if name == "_to_copy":
        return _copy_to(tensors[0], target, kwargs.get("dtype"))
    if name == "copy_" and not isinstance(args[0], DeviceTensor):
        COUNTS.syncs[_line()] += 1  # to the host
        return args[0].copy_(_inner(args[1]))
    if name != "copy_":
        _check_devices(name, args, tensors)
    if name == "_int_mm":
        _check_int_mm(*(t.inner for t in tensors))  # pyright: ignore[reportAttributeAccessIssue]
    if name in _SYNCHRONISE:
        COUNTS.syncs[_line()] += 1
    if not func.is_view:
        COUNTS.launches[_line()] += 1
    if "device" in kwargs:
        kwargs["device"] = _CPU
    if kwargs.pop("pin_memory", None):
        raise RuntimeError("Only dense CPU tensors can be pinned")
    if func in (torch.ops.aten.mm.dtype, torch.ops.aten.bmm.dtype):
        result = _inner(args[0]).to(args[2]) @ _inner(args[1]).to(args[2])
    else:
        result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    of_inner = {id(t.inner): t for t in tensors if isinstance(t, DeviceTensor)}  # in-place operations return these
    return tree_map(lambda r: _wrap(r, of_inner) if isinstance(r, torch.Tensor) else r, result)


def _wrap(inner: torch.Tensor, of_inner: dict[int, "DeviceTensor"]) -> "DeviceTensor":
    return of_inner[id(inner)] if id(inner) in of_inner else DeviceTensor(inner)


def _copy_to(tensor: torch.Tensor, device: Any, dtype: torch.dtype | None) -> torch.Tensor:
    inner = _inner(tensor).to(dtype or tensor.dtype, copy=True)
    if device is not None and torch.device(device).type == "cpu":
        COUNTS.syncs[_line()] += 1
        return inner
    COUNTS.launches[_line()] += 1
    return DeviceTensor(inner)


def _check_devices(name: str, args: Any, tensors: list[torch.Tensor]) -> None:
    if name in _HOST_INDEX:  # the indices may be anywhere, self and values not
        tensors = [args[0], *args[2:3]]
    hosts = [t for t in tensors if not isinstance(t, DeviceTensor) and isinstance(t, torch.Tensor) and t.dim() > 0]
    if hosts and any(isinstance(t, DeviceTensor) for t in tensors):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu")


def _check_int_mm(left: torch.Tensor, right: torch.Tensor) -> None:
    """What `torch._int_mm` and cuBLAS accept at full rate: row-major times column-major, multiples of 16, aligned."""
    rows, inner, columns = *left.shape, right.shape[1]
    if rows <= 16 or inner % 16 or columns % 16:
        raise RuntimeError(f"_int_mm: [{rows}, {inner}] x [{inner}, {columns}] are no sizes of cuBLAS")
    if left.stride(1) != 1 or right.stride(0) != 1:
        raise RuntimeError("_int_mm: cuBLAS multiplies row-major by column-major matrices")
    if left.data_ptr() % 16 or right.data_ptr() % 16 or left.stride(0) % 16 or right.stride(1) % 16:
        raise RuntimeError("_int_mm: matrices must be aligned to 16 bytes")


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, DeviceTensor) else value


def _line() -> str:
    """The innermost line of the package on the stack."""
    for frame in reversed(traceback.extract_stack()):
        if "/postmean/" in frame.filename:
            return f"{frame.filename.rpartition('/postmean/')[2]}:{frame.lineno}"
    return "test"


_alive: dict[int, int] = {}


def _count_storage(storage: torch.UntypedStorage) -> None:
    address, size = storage.data_ptr(), storage.nbytes()
    if address in _alive:
        return
    _alive[address] = size
    COUNTS.live_bytes += size
    COUNTS.peak_bytes = max(COUNTS.peak_bytes, COUNTS.live_bytes)

    def freed() -> None:
        COUNTS.live_bytes -= _alive.pop(address, 0)

    weakref.finalize(storage, freed)


class _Mode(TorchFunctionMode):
    """Makes tensors of the stand-in where a call names the device `cuda`, before torch looks for a real one."""

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        kwargs.pop("pin_memory", None)
        name = getattr(func, "__name__", "")
        if name == "cuda":
            return _to_device(args[0])
        if name in _TO_PYTHON and isinstance(args[0], DeviceTensor):
            COUNTS.syncs[_line()] += 1
            return func(args[0].inner, *args[1:])
        if name in ("storage", "untyped_storage") and isinstance(args[0], DeviceTensor):
            return func(args[0].inner)
        if name == "backward" and isinstance(args[0], DeviceTensor):
            with _Factories():
                return backward(args[0])
        if name == "numpy" and isinstance(args[0], DeviceTensor):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name in ("__getitem__", "__setitem__") and isinstance(args[0], DeviceTensor):
            return _index(*args)
        if name == "to" and args and isinstance(args[0], torch.Tensor):
            devices = [a for a in (*args[1:], kwargs.get("device")) if _is_cuda(a)]
            dtypes = [a for a in (*args[1:], kwargs.get("dtype")) if isinstance(a, torch.dtype)]
            if devices:
                on_device = _to_device(args[0])
                return func(on_device, *dtypes) if dtypes else on_device
        elif _is_cuda(kwargs.get("device")):
            inner = func(*args, **{**kwargs, "device": "cpu"})
            COUNTS.launches[_line()] += 1
            return DeviceTensor(inner)
        return func(*args, **kwargs)


class _Stream:
    """A stream: the stand-in does everything in the order of the host."""

    def __init__(self, device: object = None) -> None:
        pass

    def wait_stream(self, other: "_Stream") -> None:
        pass


class _Factories(TorchDispatchMode):
    """Makes tensors of the stand-in where C++ code asks for one on `cuda`, as backward passes do."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        return _dispatch(func, args, kwargs) if _is_cuda(kwargs.get("device")) else func(*args, **kwargs)


def _to_device(tensor: torch.Tensor) -> DeviceTensor:
    return tensor if isinstance(tensor, DeviceTensor) else DeviceTensor(tensor.detach().clone())


def _index(tensor: DeviceTensor, index: Any, *value: Any) -> Any:
    """tensor[index], or tensor[index] = value."""
    if value and isinstance(value[0], torch.Tensor):
        _check_devices("__setitem__", (), [tensor, value[0]])
    items = index if isinstance(index, tuple) else (index,)
    masks = [i for i in items if isinstance(i, DeviceTensor) and i.dtype == torch.bool]
    if masks or any(isinstance(i, DeviceTensor) and i.dim() == 0 for i in items):
        COUNTS.syncs[_line()] += 1
    COUNTS.launches[_line()] += bool(value) or any(isinstance(i, torch.Tensor) for i in items)
    index = tree_map(_inner, index)
    if value:
        tensor.inner[index] = _inner(value[0])
        return None
    return DeviceTensor(tensor.inner[index])


def _is_cuda(value: Any) -> bool:
    return isinstance(value, (str, torch.device)) and str(value).startswith("cuda")


@contextmanager
def cuda_stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    """Within the block, `cuda` is the stand-in; yields its counts, set to 0."""
    COUNTS.launches.clear()
    COUNTS.syncs.clear()
    COUNTS.peak_bytes, COUNTS.free_bytes = COUNTS.live_bytes, 80 << 30
    replaced = {
        "is_available": lambda: True,
        "_lazy_init": lambda: None,
        "synchronize": lambda device=None: None,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "Stream": _Stream,
        "current_stream": lambda device=None: _Stream(),
        "stream": lambda stream: nullcontext(),
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "mem_get_info": lambda device=None: (COUNTS.free_bytes, 80 << 30),
        "get_device_name": lambda device=None: "stand-in for a GPU",
    }
    for name, value in replaced.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # in all threads
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    # modules get new parameters on the device: the old ones cannot become tensors of another class
    monkeypatch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    torch._C._ensureCUDADeviceGuardSet()  # pyright: ignore[reportAttributeAccessIssue] # one that does nothing
    with _Mode():
        yield COUNTS
