"""Checks of settings, with errors that name the flag."""

from typing import Any

from postmean.base.errors import ConfigError


def check_at_least_one(config: Any, names: tuple[str, ...]) -> None:
    """Raise ConfigError for a field that has a value below 1."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')}: expected at least 1, got {value}")


def check_positive(config: Any, names: tuple[str, ...]) -> None:
    """Raise ConfigError for a field that has a value, but no positive one."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ConfigError(f"--{name.replace('_', '-')}: expected a positive number, got {value}")
