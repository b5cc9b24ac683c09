"""Frozen dataclasses to and from plain JSON objects, strictly: unknown or missing fields and wrong types are errors.

A dataclass that is one of several alternatives (a process, a noise distribution) has a class attribute `kind`. It is
written beside the fields and selects the class when read.

cattrs reads and writes the same with half of these lines, but says what is wrong without the value, what to do and a
near name; with hooks for these it saves little, for two more packages of the core. msgspec and its tagged unions need
classes of its own in place of dataclasses.
"""

import dataclasses
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from postmean.base.errors import ConfigError
from postmean.base.suggest import suggestion

T = TypeVar("T")


def to_dict(config: Any) -> Any:
    """A dataclass tree as plain JSON values; tuples become lists, other objects such as paths strings."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        kind = {"kind": getattr(config, "kind")} if hasattr(config, "kind") else {}  # noqa: B009
        return kind | {f.name: _plain(f.type, getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {str(key): to_dict(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_dict(value) for value in config]
    return config if isinstance(config, bool | int | float | str | None) else str(config)


def _plain(annotation: Any, value: Any) -> Any:
    """A field's value as plain JSON; 1 as 1.0 where a float is meant, so that reading and writing keep the text."""
    if annotation in (float, "float") and type(value) is int:
        return float(value)
    if annotation == tuple[float, ...]:
        return [_plain(float, item) for item in value]
    return to_dict(value)


def from_dict(cls: type[T], plain: Any, where: str) -> T:
    """The dataclass `cls` from what `to_dict` wrote.

    Args:
        where: names the origin in errors, such as the manifest's path.
    Raises:
        ConfigError: unknown or missing field, unknown kind, wrong type, or a value that the dataclass refuses.
    """
    return convert(cls, plain, where)


def convert(annotation: Any, plain: Any, where: str) -> Any:
    """A plain value converted to the type of an annotation; raises as `from_dict`."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(typing.get_args(annotation), plain, where)
    if origin is tuple:
        return _convert_tuple(typing.get_args(annotation), plain, where)
    if origin is list:
        return list(_convert_tuple((*typing.get_args(annotation), ...), plain, where))
    if origin is typing.Literal:
        return _convert_literal(typing.get_args(annotation), plain, where)
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return _convert_dataclass(annotation, plain, where)
    return _convert_scalar(annotation, plain, where)


def _convert_union(options: tuple[Any, ...], plain: Any, where: str) -> Any:
    """None, the dataclass of the value's kind, or the union's only other type; unconverted if there are several."""
    if plain is None and type(None) in options:
        return None
    classes = [option for option in options if dataclasses.is_dataclass(option)]
    by_kind: dict[Any, Any] = {getattr(c, "kind"): c for c in classes if hasattr(c, "kind")}  # noqa: B009
    if by_kind:
        kind = plain.get("kind") if isinstance(plain, dict) else None
        if kind not in by_kind:
            raise ConfigError(f"{where}: kind {kind!r} is not one of {', '.join(sorted(by_kind))}")
        return convert(by_kind[kind], plain, where)
    if classes:
        return convert(classes[0], plain, where)
    others = [option for option in options if option is not type(None)]
    if len(others) == 1:
        return convert(others[0], plain, where)
    if isinstance(plain, dict | list) and not any(typing.get_origin(option) for option in others):
        names = " or ".join(getattr(option, "__name__", str(option)) for option in others)
        raise ConfigError(f"{where}: expected {names}, got {type(plain).__name__}")
    return plain


def _convert_dataclass(cls: Any, plain: Any, where: str) -> Any:
    """A dataclass with every field converted."""
    if not isinstance(plain, dict):
        raise ConfigError(f"{where}: expected an object for {cls.__name__}, got {type(plain).__name__}")
    hints = _hints(cls)
    is_field = any(f.name == "kind" for f in dataclasses.fields(cls))
    given = {key: value for key, value in plain.items() if key != "kind" or is_field}
    check_names(cls, given, where)
    return cls(**{name: convert(hints[name], value, f"{where}.{name}") for name, value in given.items()})


def check_names(cls: Any, given: dict[str, Any], where: str, missing_allowed: bool = False) -> None:
    """Raise ConfigError for names that are no field of the dataclass, and for required fields without a value."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(str(name) for name in given if name not in fields)
    missing = sorted(
        name
        for name, f in fields.items()
        if name not in given and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    )
    if unknown:
        near = suggestion(unknown[0], fields) or ": it was written by another version of postmean or edited"
        raise ConfigError(f"{where}: unknown {', '.join(unknown)}{near}")
    if missing and not missing_allowed:
        raise ConfigError(
            f"{where}: missing {', '.join(missing)}: it was written by another version of postmean or edited"
        )


def _convert_tuple(items: tuple[Any, ...], plain: Any, where: str) -> tuple[Any, ...]:
    """A tuple from a list, of fixed length or (with ...) any length."""
    any_length = items[-1] is ...
    if not isinstance(plain, list | tuple) or not (any_length or len(plain) == len(items)):
        raise ConfigError(f"{where}: expected a list of {'any length' if any_length else len(items)}")
    of = [items[0]] * len(plain) if any_length else items
    pairs = zip(of, plain, strict=True)
    return tuple(convert(item, value, f"{where}[{i}]") for i, (item, value) in enumerate(pairs))


def _convert_literal(options: tuple[Any, ...], plain: Any, where: str) -> Any:
    """The value, which must be one of the options."""
    if not any(plain is option or plain == option for option in options):
        raise ConfigError(f"{where}: {plain!r} is not one of {', '.join(map(repr, options))}")
    return plain


def _convert_scalar(annotation: Any, plain: Any, where: str) -> Any:
    """A number, bool or string of exactly this type; a value with any other annotation is returned as it is."""
    if annotation is float and type(plain) is int:
        return float(plain)  # writers other than Python's write 1.0 as 1
    if annotation is Path and type(plain) is str:
        return Path(plain)
    if annotation in (bool, int, float, str, Path) and type(plain) is not annotation:
        raise ConfigError(f"{where}: expected {annotation.__name__}, got {plain!r}")
    return plain


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)  # slow, and a run reads up to a million digests


def differences(ours: Any, theirs: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Every difference of two plain trees as (field path, our value, their value), in field order."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        differing = []
        for key in [*ours, *[k for k in theirs if k not in ours]]:
            path = f"{prefix}.{key}" if prefix else key
            differing += differences(ours.get(key), theirs.get(key), path)
        return differing
    return [] if ours == theirs else [(prefix, ours, theirs)]
