"""Checks of settings. Most errors name the flag; `check_finite` and `check_finite_positive` name part and field."""

import math
from typing import Any

from postmean.base.errors import ConfigError

FLOAT16_ERROR = 2.0**-24
"""Most mean squared error per value of x in [-1, 1] that is rounded to float16."""

LEAST_TOLERANCE = 1e-7
"""Smallest mean squared error that can be promised: above what storing a mean costs."""


def check_at_least_one(config: Any, names: tuple[str, ...]) -> None:
    """Raise ConfigError where one of these fields is below 1; None passes."""
    for name in names:
        check_at_least(config, name, 1)


def check_at_least(config: Any, name: str, least: float) -> None:
    """Raise ConfigError where the field is below `least`; None passes."""
    value = getattr(config, name)
    if value is not None and value < least:
        raise ConfigError(f"{_flag(name)}: expected at least {least}, got {value}")


def check_positive(config: Any, names: tuple[str, ...]) -> None:
    """Raise ConfigError where one of these fields is not positive; None passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ConfigError(f"{_flag(name)}: expected a positive number, got {value}")


def check_tolerance(config: Any) -> None:
    """Raise ConfigError unless the field `tolerance`, a mean squared error of x in [-1, 1], is in [1e-7, 1)."""
    if not LEAST_TOLERANCE <= config.tolerance < 1:
        raise ConfigError(
            f"--tolerance: expected a mean squared error in [{LEAST_TOLERANCE:g}, 1), got {config.tolerance:g}: "
            f"a mean that is stored as float16 is off by up to {FLOAT16_ERROR:.0e}"
        )


def check_finite(part: str, **values: float) -> None:
    """Raise ConfigError for a value that is not finite.

    Args:
        part: names the owner of the fields in errors, such as "noise".
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise ConfigError(f"{part}: {name} must be finite, got {value}")


def check_finite_positive(part: str, **values: float) -> None:
    """Raise ConfigError for a value that is not a positive finite number."""
    for name, value in values.items():
        if not is_finite_positive(value):
            raise ConfigError(f"{part}: {name} must be positive and finite, got {value}")


def is_finite_positive(value: float) -> bool:
    """Whether a setting is positive and finite."""
    return math.isfinite(value) and value > 0


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
