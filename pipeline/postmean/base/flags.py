"""Groups of flags: one dataclass of settings in code, flags without a prefix on the command line."""

from dataclasses import fields, replace
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")


class FlagGroup:
    """Base of a dataclass of settings whose fields are flags without a prefix: --flips, not --recipe.flips.

    `--help` shows them as a group named after the field that holds the dataclass.
    """

    flag_names: ClassVar[dict[str, str]] = {}
    """Field -> its flag, where the names differ."""


def with_flags(config: T, **flags: Any) -> T:
    """A copy of a dataclass with some fields changed: its own by name, those of its flag groups by flag name.

    >>> from postmean.pipeline import PlanConfig
    >>> config = with_flags(PlanConfig(store="digits.store", tuples=1000), flips=True, estimator="knn-snis")
    >>> config.recipe.flips, config.estimator.name
    (True, 'knn-snis')

    Raises:
        TypeError: no field or flag has this name.
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
