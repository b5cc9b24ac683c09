"""The flags of a dataclass of settings, and the kinds of its parts.

The fields of a `FlagGroup` are flags without a prefix, those of any other part have one: --network.channels. A part
that is one of several dataclasses with a `kind` (a process, a noise, a loss) has a flag that chooses the kind,
--noise ict, and the flags of that kind, --noise.s0.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from tyro.conf import Positional

from postmean.base.flags import FlagGroup, flag_name


def parts(cls: type) -> Iterator[tuple[str, str, Any]]:
    """(field, its flag, its type) of each field of a dataclass."""
    hints = typing.get_type_hints(cls)
    return ((field.name, flag_name(cls, field.name), hints[field.name]) for field in dataclasses.fields(cls))


def kinds(annotation: Any) -> dict[str, type]:
    """Kind -> dataclass, of a union of dataclasses with a `kind`; empty for other types."""
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return {}
    options = [option for option in typing.get_args(annotation) if dataclasses.is_dataclass(option)]
    return {option.kind: option for option in options if hasattr(option, "kind")}  # type: ignore[attr-defined]


def kind_flags(cls: type) -> dict[str, dict[str, type]]:
    """Flag -> kinds, of every flag that chooses a kind."""
    found: dict[str, dict[str, type]] = {}
    for _, flag, hint in parts(cls):
        if isinstance(hint, type) and issubclass(hint, FlagGroup):
            found |= kind_flags(hint)
        elif options := kinds(hint):
            found[flag] = options
    return found


class Flag(NamedTuple):
    """A flag, or an argument without one."""

    name: str
    """Without dashes."""
    type: Any
    """Of its value, as annotated; of a flag that chooses a kind, a Literal of the kinds."""
    is_positional: bool


def flags_of(cls: type, chosen: Mapping[str, str], prefix: str = "") -> Iterator[Flag]:
    """All flags of a dataclass.

    Args:
        chosen: flag -> kind, for the flags that choose one.
    """
    annotations = typing.get_type_hints(cls, include_extras=True)
    for field, flag, hint in parts(cls):
        name = prefix + flag.replace("_", "-")
        if options := kinds(hint):
            yield Flag(name, Literal[tuple(options)], False)  # type: ignore[valid-type]
            yield from flags_of(options[chosen[flag]], chosen, f"{name}.") if chosen.get(flag) in options else ()
        elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from flags_of(hint, chosen, "" if issubclass(hint, FlagGroup) else f"{name}.")
        else:
            yield Flag(name, hint, Positional in getattr(annotations[field], "__metadata__", ()))
