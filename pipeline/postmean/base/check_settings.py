"""Settings given from Python are checked as the command line checks flags: names, values, and that none is missing."""

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from reprlib import repr as short
from typing import Any

from postmean.base.errors import ConfigError
from postmean.base.flag_tree import kinds, parts
from postmean.base.flags import FlagGroup
from postmean.base.suggest import choice, suggestion

_WORDS: Mapping[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path",
    types.NoneType: "None",
}


def check_settings(cls: type, settings: Mapping[str, Any]) -> None:
    """Refuse settings of a dataclass that its fields, or the flags of its groups, cannot take.

    Raises:
        ConfigError: there is none of this name, or the value is of another type.
    """
    known = _types(cls)
    for name, value in settings.items():
        if name not in known:
            near = suggestion(name, known) or f": help({cls.__name__}) shows the fields, and the groups with theirs"
            raise ConfigError(f"{cls.__name__}: no setting {name!r}{near}")
        if not any(_fits(annotation, value) for annotation in known[name]):
            raise ConfigError(f"{cls.__name__}: {name}: {_wrong(known[name][-1], value)}")


def check_complete(cls: type, given: Collection[str]) -> None:
    """Refuse settings without one that has no default.

    Raises:
        ConfigError: names what is missing.
    """
    missing = [
        f"{field.name} ({_expected(_types(cls)[field.name][0])})"
        for field in dataclasses.fields(cls)
        if field.name not in given
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(
            f"{cls.__name__}: missing {', '.join(missing)}: pass {'it' if len(missing) == 1 else 'them'} by name"
        )


def _types(cls: type) -> dict[str, list[Any]]:
    """Name -> types, one of which its value must have: a group and one of its flags may have the same name."""
    found = {field: [hint] for field, _, hint in parts(cls)}
    for _, _, group in parts(cls):
        if isinstance(group, type) and issubclass(group, FlagGroup):
            for _, flag, hint in parts(group):
                found.setdefault(flag, []).append(hint)
    return found


def _fits(annotation: Any, value: Any) -> bool:
    if annotation in (int, float) and type(value) is bool:
        return False
    if annotation is float:
        return isinstance(value, int | float)
    if annotation in (str, Path):
        return isinstance(value, str | Path)
    origin = typing.get_origin(annotation)
    if kinds(annotation):  # also a class of the user's own: what it must have is checked where it is used
        return not isinstance(value, str | int | float | dict | list | tuple | None)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(option, value) for option in typing.get_args(annotation))
    if origin is typing.Literal:
        return value in typing.get_args(annotation)
    if origin is tuple:
        return isinstance(value, tuple | list)
    return not isinstance(annotation, type) or isinstance(value, annotation)


def _wrong(annotation: Any, value: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return f"no {short(value)}{choice(str(value), typing.get_args(annotation))}"
    return f"expected {_expected(annotation)}, got {short(value)}"


def _expected(annotation: Any) -> str:
    """A type in words."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_expected, typing.get_args(annotation)))
    if origin is tuple:
        return "a tuple"
    return _WORDS.get(annotation) or getattr(annotation, "__name__", str(annotation))
