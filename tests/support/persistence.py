"""Pickles as NVIDIA's torch_utils.persistence writes them: objects that carry the source code of their class."""

import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

SOURCE = "# a whole module of their code, so longer than short strings of pickles\n" * 9
SOURCE += "import os\nraise SystemExit('the code of the snapshot was run')\n"


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    raise AssertionError("never called")


class EasyDict(dict):
    """dnnlib's dict."""


class Persistent(nn.Module):
    """A module of a persistent class, with the arguments of its constructor."""

    def __init__(self, name: str, kwargs: dict[str, Any]) -> None:
        super().__init__()
        self._init_args, self._init_kwargs = (), kwargs
        object.__setattr__(self, "persistent_name", name)

    def __reduce__(self) -> tuple[Any, ...]:
        state = {key: value for key, value in self.__dict__.items() if key != "persistent_name"}
        meta = dict(type="class", version=6, module_src=SOURCE, class_name=self.persistent_name, state=state)
        return _reconstruct_persistent_obj, (meta,), None


class PersistentPlain:
    """An object that is no module, such as a loss."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        meta = dict(type="class", version=6, module_src=SOURCE, class_name=self.name, state={"P_mean": -1.2})
        return _reconstruct_persistent_obj, (meta,), None


def persistent(module: nn.Module, name: str = "", **kwargs: Any) -> Any:
    """The parameters, buffers and modules of a module in persistent ones; torch's own containers stay."""
    inner = {key: persistent(child) for key, child in module.named_children()}
    if isinstance(module, nn.ModuleDict):
        return nn.ModuleDict(inner)
    made = Persistent(name or type(module).__name__, kwargs)
    for key, parameter in module.named_parameters(recurse=False):
        made.register_parameter(key, parameter)
    for key, buffer in module.named_buffers(recurse=False):
        made.register_buffer(key, buffer)
    for key, child in inner.items():
        made.add_module(key, child)
    made.absent = None
    return made


@contextmanager
def _as_in_their_repository() -> Iterator[None]:
    """The names under which a pickle stores the function and the class, for as long as one is written."""
    where = {_reconstruct_persistent_obj: "torch_utils.persistence", EasyDict: "dnnlib.util"}
    before = {thing: thing.__module__ for thing in where}
    for thing, module in where.items():
        thing.__module__ = module
        sys.modules[module.partition(".")[0]] = types.ModuleType(module)
        sys.modules[module] = types.ModuleType(module)
        setattr(sys.modules[module], thing.__name__, thing)
    try:
        yield
    finally:
        for thing, module in before.items():
            del sys.modules[where[thing]], sys.modules[where[thing].partition(".")[0]]
            thing.__module__ = module


def snapshot(ema: Persistent, **more: Any) -> bytes:
    """The bytes of a snapshot, with what the training loops of EDM and of EDM2 write beside the network."""
    if ema.persistent_name == "Precond":
        beside = dict(encoder=PersistentPlain("StandardRGBEncoder"), loss_fn=PersistentPlain("EDM2Loss"))
        data = EasyDict(dataset_kwargs=EasyDict(path="x.zip", max_size=None), **beside, ema=ema, **more)
    else:
        beside = dict(loss_fn=PersistentPlain("EDMLoss"), augment_pipe=PersistentPlain("AugmentPipe"))
        data = dict(ema=ema, **beside, dataset_kwargs=dict(path="x.zip", max_size=None)) | more
    with _as_in_their_repository(), torch.no_grad():
        return pickle.dumps(data)
