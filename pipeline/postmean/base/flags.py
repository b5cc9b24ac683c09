"""Groups of flags: settings that are a dataclass of their own in code, and plain flags on the command line."""

from dataclasses import fields, replace
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")


class FlagGroup:
    """Base of a dataclass of settings whose fields are flags without a prefix: --flips, not --recipe.flips.

    `--help` shows them as a group under the name of the field that holds them.
    """

    flag_names: ClassVar[dict[str, str]] = {}
    """Field -> name of its flag, where the two differ."""


def with_flags(config: T, **flags: Any) -> T:
    """A copy of a dataclass with these fields changed: its own, and by the names of their flags those of its groups.

    Raises:
        TypeError: no field and no flag has this name.
    """
    for own in fields(config):  # type: ignore[arg-type]
        group = getattr(config, own.name)
        if not isinstance(group, FlagGroup):
            continue
        taken = {}
        for field in fields(group):  # type: ignore[arg-type]
            flag = group.flag_names.get(field.name, field.name)
            if flag in flags and not isinstance(flags[flag], FlagGroup):
                taken[field.name] = flags.pop(flag)
        if taken:
            flags[own.name] = replace(group, **taken)  # type: ignore[type-var]
    return replace(config, **flags)  # type: ignore[type-var]
