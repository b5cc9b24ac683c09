"""`postmean completion SHELL`: a script that completes commands, presets, flags and their values."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from postmean.base.command_line import CommandLine
from postmean.cli.commands import COMMANDS


@dataclass(frozen=True, kw_only=True)
class CompletionConfig:
    """Which shell."""

    shell: Positional[Literal["bash", "zsh", "fish"]]
    """Shell to complete in."""


COMMAND = CommandLine(
    name="completion",
    settings=CompletionConfig,
    summary="Print the completion script of a shell. bash: postmean completion bash > "
    "~/.local/share/bash-completion/completions/postmean; zsh: > _postmean in a folder of $fpath; fish: > "
    "~/.config/fish/completions/postmean.fish.",
    main="shell",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, _ = COMMAND.parse(argv)
    from postmean.base.completion import completion_script

    print(completion_script((command.load().COMMAND for command in COMMANDS.values()), config.shell))
    return 0
