"""`postmean config`: the presets; `postmean config PRESET`: one of them as a file for --config."""

from dataclasses import dataclass
from typing import Any, Literal

from tyro.conf import Positional

from postmean.base.command_line import CommandLine
from postmean.base.config_file import to_plain, to_yaml
from postmean.base.errors import ConfigError
from postmean.base.suggest import preset_choice
from postmean.cli.commands import COMMANDS
from postmean.runs.config import JobConfig, presets

Command = Literal["plan", "generate", "serve", "train"]


@dataclass(frozen=True, kw_only=True)
class ConfigConfig:
    """Which settings to print."""

    preset: Positional[str] = ""
    """Preset to print; without one, they are listed."""
    command: Command = "generate"
    """Command that the settings are for; plan, generate and serve take the same."""


COMMAND = CommandLine(
    name="config",
    settings=ConfigConfig,
    summary="List the presets, or print the settings of one as YAML for --config; with --json, as JSON.",
    main="preset command",
)


def known_presets(command: Command) -> dict[str, tuple[str, Any]]:
    """Description and settings by name; those of a job, for what plan, generate and serve share."""
    return COMMANDS["train"].load().COMMAND.presets() if command == "train" else presets(JobConfig)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    known = known_presets(config.command)
    if not config.preset:
        width = max(map(len, known))
        lines = [f"{name:<{width}}  {summary}" for name, (summary, _) in known.items()]
        output.report({name: summary for name, (summary, _) in known.items()}, "\n".join(lines))
        return 0
    if config.preset not in known:
        near = preset_choice(config.preset, known, config.command)
        raise ConfigError(f"no preset {config.preset!r} of {config.command}{near}")
    _, settings = known[config.preset]
    output.report(to_plain(settings), to_yaml(settings))
    return 0
