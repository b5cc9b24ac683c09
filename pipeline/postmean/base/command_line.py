"""What all commands share: parsing into frozen dataclasses, and printing a report as text or JSON.

Precedence: command line > preset > default. Unknown flags and values out of range fail with exit code 2.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal, TypeVar

from postmean.base.errors import ConfigError
from postmean.base.flags import FlagGroup

T = TypeVar("T")


def parse(config: type[T], argv: list[str], command: str, summary: str) -> T:
    """A config from command-line flags over the defaults of its dataclass."""
    import tyro  # here, so that `postmean --help` does not load it

    with _flag_groups({}):
        return tyro.cli(
            config, args=argv, prog=f"postmean {command}", description=summary, config=(tyro.conf.AvoidSubcommands,)
        )


def parse_preset(
    presets: Mapping[str, tuple[str, T]],
    argv: list[str],
    command: str,
    summary: str,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> T:
    """A config from `PRESET --flags`: the preset's values overridden by the flags.

    Args:
        presets: name -> (one-line description, config).
        choices: flag of a `FlagGroup` -> its allowed values, where only the caller knows them.
    Raises:
        ConfigError: the first argument is neither a flag nor a preset.
    """
    import tyro

    if argv and not argv[0].startswith("-") and argv[0] not in presets:
        raise ConfigError(f"no preset {argv[0]!r}: it is one of {', '.join(presets)}")

    # AvoidSubcommands: the preset fixes the kind of a union (noise, process); flags override its fields
    with _flag_groups(choices or {}):
        return tyro.extras.overridable_config_cli(
            dict(presets),
            args=argv,
            prog=f"postmean {command}",
            description=summary,
            config=(tyro.conf.AvoidSubcommands,),
        )


def _flag_groups(choices: Mapping[str, Sequence[str]]) -> AbstractContextManager[None]:
    """tyro's rules plus one: the fields of a `FlagGroup` are flags without a prefix."""
    import tyro

    registry = tyro.constructors.ConstructorRegistry()
    inside = False

    @registry.struct_rule
    def flag_group(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
        nonlocal inside
        if inside or not (isinstance(info.type, type) and issubclass(info.type, FlagGroup)):
            return None
        inside = True  # get_struct_spec calls this rule again: None then leaves the class to tyro's dataclass rule
        try:
            spec = registry.get_struct_spec(info)
        finally:
            inside = False
        assert isinstance(spec, tyro.constructors.StructConstructorSpec)
        fields = []
        for field in spec.fields:
            flag = info.type.flag_names.get(field.name, field.name)
            kind: Any = Literal[tuple(choices[flag])] if flag in choices else field.type
            fields.append(dataclasses.replace(field, type=Annotated[kind, tyro.conf.arg(prefix_name=False, name=flag)]))
        return dataclasses.replace(spec, fields=tuple(fields))

    return registry


def _finite(plain: Any) -> Any:
    """The object with None in place of numbers that JSON cannot hold (nan, inf)."""
    if isinstance(plain, dict):
        return {key: _finite(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_finite(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def print_report(report: Any, text: str, as_json: bool) -> None:
    """Print `text`, or with --json the report (a dataclass or plain object) as one JSON document, to stdout."""
    if as_json:
        plain = dataclasses.asdict(report) if dataclasses.is_dataclass(report) else report  # type: ignore[arg-type]
        sys.stdout.write(json.dumps(_finite(plain), indent=1, allow_nan=False) + "\n")
    else:
        sys.stdout.write(text.rstrip("\n") + "\n")
