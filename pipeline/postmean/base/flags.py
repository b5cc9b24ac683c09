"""Groups of flags: one dataclass of settings in code, flags without a prefix on the command line."""

from dataclasses import MISSING, fields, replace
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")


class FlagGroup:
    """Base of a dataclass of settings whose fields are flags without a prefix: --flips, not --recipe.flips.

    `--help-all` shows them as a group named after the field that holds the dataclass.
    """

    flag_names: ClassVar[dict[str, str]] = {}
    """Field -> its flag, where the names differ."""


def flag_name(owner: type, field: str) -> str:
    """The flag of a field of a dataclass, without dashes and prefix."""
    return getattr(owner, "flag_names", {}).get(field, field)


def is_missing(value: Any) -> bool:
    """Whether a value is still to be given on the command line."""
    import tyro

    return value is tyro.MISSING


def incomplete(cls: type[T], **values: Any) -> T:
    """A config from the values of some fields. It is validated only if no required field is missing.

    A missing field has a value for which `is_missing` holds: the command line must then give it.
    """
    import tyro

    needed = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]
    missing = {name: tyro.MISSING for name in needed - values.keys()}
    if not missing and not any(is_missing(value) for value in values.values()):
        return cls(**values)
    config = object.__new__(cls)
    for field in fields(cls):  # type: ignore[arg-type]
        default = field.default if field.default_factory is MISSING else field.default_factory()
        object.__setattr__(config, field.name, (missing | values).get(field.name, default))
    return config


def with_flags(config: T, **flags: Any) -> T:
    """A copy of a dataclass with some fields changed: its own by name, those of its flag groups by flag name.

    >>> from postmean.pipeline import PlanConfig
    >>> config = with_flags(PlanConfig(store="digits.store", tuples=1000), flips=True, estimator="knn-snis")
    >>> config.recipe.flips, config.estimator.name
    (True, 'knn-snis')

    Raises:
        ConfigError: no field or flag has this name, or its value is of another type or out of range.
    """
    from postmean.base.check_settings import check_settings  # here: it looks for flag groups

    check_settings(type(config), flags)
    for own in fields(config):  # type: ignore[arg-type]
        group = getattr(config, own.name)
        if not isinstance(group, FlagGroup):
            continue
        taken = {}
        for field in fields(group):  # type: ignore[arg-type]
            flag = flag_name(type(group), field.name)
            if flag in flags and not isinstance(flags[flag], FlagGroup):
                taken[field.name] = flags.pop(flag)
        if taken:
            flags[own.name] = replace(group, **taken)  # type: ignore[type-var]
    return replace(config, **flags)  # type: ignore[type-var]
