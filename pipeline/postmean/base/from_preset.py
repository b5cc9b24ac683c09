"""Settings from a preset in Python, as `postmean COMMAND PRESET --flags` has them on the command line."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from postmean.base.check_settings import check_complete, check_settings
from postmean.base.errors import ConfigError
from postmean.base.flags import with_flags
from postmean.base.suggest import preset_choice

T = TypeVar("T")
V = TypeVar("V")


def named(presets: Mapping[str, V], name: str, command: str) -> V:
    """The preset of this name; ConfigError if the command has none."""
    if name not in presets:
        raise ConfigError(f"no preset {name!r}{preset_choice(name, presets, command)}")
    return presets[name]


def from_preset(cls: type[T], values: Mapping[str, Any], settings: Mapping[str, Any]) -> T:
    """An instance of a dataclass of settings.

    Args:
        values: the preset's fields.
        settings: replace those; the names are those of fields, or of flags as `with_flags` takes them.
    Raises:
        ConfigError: there is no setting of this name, one is missing, of a wrong type or out of range, or contradicts
            another.
    """
    check_settings(cls, settings)
    check_complete(cls, values.keys() | settings.keys())
    required = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]
    given = {name: value for name, value in settings.items() if name in required}
    rest = {name: value for name, value in settings.items() if name not in required}
    return with_flags(cls(**{**values, **given}), **rest)
