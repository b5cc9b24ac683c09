"""A reader of NVIDIA's snapshots: pickles of networks that carry their own source code, which is never run.

`torch_utils.persistence` of EDM and EDM2 pickles an object as the arguments of `_reconstruct_persistent_obj`: a dict of
type, version, source of its module, name of its class, and state. Here this dict is data, and the object a `StandIn`.
Tensors are read from the bytes of their storages: each is a file of torch.save's older format, a chain of pickles.
"""

import io
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, ClassVar

import torch

from postmean.base.errors import DataError
from postmean.base.one_line import brief
from postmean.base.plain_pickle import PickledArray, PlainUnpickler, RefusedError, check_keys

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""With which files of torch.save's older format begin."""
_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class StandIn:
    """An object of the pickle: the name of its class, and its state. It has no methods of that class."""

    def __init__(self, name: str = "", state: dict[str, Any] | None = None) -> None:
        self.name, self.state = name, state or {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise RefusedError("a module without a dict of its state")
        self.state = state

    def part(self, kind: str) -> dict[str, Any]:
        """Parameters, buffers or modules by name, such as of `_modules`."""
        found = self.state.get(kind)
        return found if isinstance(found, dict) else {}


class StoredTensor:
    """A tensor as the pickle describes it; `made` checks the description against the bytes that there are."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> None:
        self._storage, self._offset, self.shape, self._strides = storage, offset, shape, strides

    def made(self) -> torch.Tensor:
        """The tensor, a copy; ValueError unless it is a whole part of its storage."""
        sizes = self.shape
        plain = isinstance(sizes, tuple) and all(type(size) is int and size >= 0 for size in sizes)
        if not plain or not isinstance(self._storage, torch.Tensor) or type(self._offset) is not int:
            raise ValueError("a tensor without shape or storage")
        strides = tuple(math.prod(sizes[axis + 1 :]) for axis in range(len(sizes)))
        narrow = [stride for stride, size in zip(strides, sizes, strict=True) if size > 1]
        given = [stride for stride, size in zip(self._strides, sizes, strict=True) if size > 1]
        count = math.prod(sizes)
        if given != narrow or not 0 <= self._offset <= len(self._storage) - count:
            raise ValueError("a tensor that is not a whole part of its storage")
        return self._storage[self._offset : self._offset + count].reshape(sizes).clone()


def read_snapshot(path: Path) -> dict[str, Any]:
    """The dict that a snapshot is, with a `StandIn` for each object and a `StoredTensor` for each tensor.

    Raises:
        DataError: it is damaged, or asks for anything else than plain values, tensors and persistent objects.
    """
    try:
        with path.open("rb") as file:
            found = _SnapshotUnpickler(file, path.stat().st_size).load()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}: pass the .pkl file of a released network") from error
    except RefusedError as error:
        raise DataError(
            f"{path}: refused to unpickle {brief(error)}: only networks of EDM and EDM2 are read, and none of their "
            "code is run: download the file from its official site"
        ) from error
    except Exception as error:  # a damaged pickle fails in any way
        raise DataError(f"{path}: not a snapshot of EDM or EDM2 ({brief(error)}): download it again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: a pickle of a {type(found).__name__}, expected the dict of a snapshot")
    return found


class _EasyDict(dict[str, Any]):
    """Stands for dnnlib's dict."""


def _persistent(meta: Any, *_: Any) -> StandIn:
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("class_name"), str):
        raise RefusedError("a persistent object without the name of its class")
    made = StandIn(meta["class_name"])
    made.__setstate__(meta.get("state"))
    return made


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _empty_dict(*_: Any) -> dict[str, Any]:
    return {}


def _scalar(kind: Any, raw: Any) -> Any:
    """A number of numpy's."""
    array = PickledArray()
    array.__setstate__((1, (1,), kind, False, raw))
    return array.made()[0].item()


def _storage(raw: Any) -> torch.Tensor:
    """The numbers of a storage, one-dimensional, from its file of torch.save's older format."""
    if not isinstance(raw, bytes):
        raise RefusedError("a storage that is not bytes")
    file = io.BytesIO(raw)
    chain = [_StorageUnpickler(file, len(raw)).load() for _ in range(5)]
    magic, protocol, machine, described, keys = chain
    if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(machine, dict) or not machine.get("little_endian"):
        raise RefusedError("a storage of another format")
    if not isinstance(described, _Described) or keys != [described.key]:
        raise RefusedError("a storage of several parts")
    count = int.from_bytes(file.read(8), "little")
    if count != described.count or len(raw) - file.tell() != count * described.dtype.itemsize:
        raise ValueError("a storage of another length than its description")
    if not count:
        return torch.empty(0, dtype=described.dtype)
    return torch.frombuffer(bytearray(memoryview(raw)[file.tell() :]), dtype=described.dtype)


class _Described:
    """What a storage's file says of it."""

    def __init__(self, key: str, dtype: torch.dtype, count: int) -> None:
        self.key, self.dtype, self.count = key, dtype, count


class _StorageUnpickler(PlainUnpickler):
    """Reads the pickles of a storage's file: numbers, texts, and the description of the storage."""

    allowed: ClassVar[Mapping[tuple[str, str], Any]] = {("torch", name): dtype for name, dtype in _TYPES.items()}

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(file, size, encoding="ASCII")

    def persistent_load(self, pid: Any) -> _Described:
        if not isinstance(pid, tuple) or len(pid) != 6 or pid[0] != "storage" or pid[5] is not None:
            raise RefusedError("a storage that is part of another")
        _, dtype, key, _, count, _ = pid
        if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or type(count) is not int:
            raise RefusedError("a storage of an unknown type")
        return _Described(key, dtype, count)


class _SnapshotUnpickler(PlainUnpickler):
    """Reads a snapshot: plain values, tensors, torch's containers of modules, and persistent objects as data."""

    allowed: ClassVar[Mapping[tuple[str, str], Any]] = {
        **PlainUnpickler.allowed,
        ("numpy.core.multiarray", "scalar"): _scalar,
        ("numpy._core.multiarray", "scalar"): _scalar,
        ("collections", "OrderedDict"): _empty_dict,
        ("dnnlib.util", "EasyDict"): _EasyDict,
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
        ("torch._utils", "_rebuild_tensor_v2"): StoredTensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch.storage", "_load_from_bytes"): _storage,
        **{("torch.nn.modules.container", name): StandIn for name in ("ModuleDict", "ModuleList", "Sequential")},
        **{("torch", str(dtype).removeprefix("torch.")): dtype for dtype in _TYPES.values()},
    }
    with_state: ClassVar[tuple[type, ...]] = (*PlainUnpickler.with_state, StandIn)
    dispatch = dict(PlainUnpickler.dispatch)  # noqa: RUF012

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(file, size, encoding="ASCII")

    def load_empty_set(self) -> None:
        self.append(set())

    def load_additems(self) -> None:
        items = self.pop_mark()
        check_keys(items)
        if not isinstance(self.stack[-1], set):
            raise RefusedError("items of no set")
        self.stack[-1].update(items)

    dispatch |= {pickle.EMPTY_SET[0]: load_empty_set, pickle.ADDITEMS[0]: load_additems}
