"""Completion scripts of shells, by tyro: commands, presets, flags, and the values of those that have few."""

import dataclasses
import io
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from typing import Annotated, Any, Union

import tyro

from postmean.base.command_line import CommandLine
from postmean.base.output import Output
from postmean.base.tyro_rules import Rules


def completion_script(commands: Iterable[CommandLine[Any]], shell: str) -> str:
    """The script of a shell: bash, zsh or fish."""
    commands = list(commands)
    choices = {flag: tuple(values()) for command in commands for flag, values in command.choices.items()}
    tree: dict[str, Any] = {}
    for command in commands:
        *outer, name = command.name.split()
        for word in outer:  # a command of two words, such as `report estimators`
            tree = tree | {word: tree.get(word, {})}
        (tree[outer[0]] if outer else tree)[name] = _flags(command)
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit), Rules(None, choices, None).registry:
        tyro.cli(
            _one_of(tree),
            args=["--tyro-print-completion", shell],
            prog="postmean",
        )
    return printed.getvalue()


def _flags(command: CommandLine[Any]) -> type:
    """A dataclass with the flags of a command, and a subcommand for each preset."""
    fields: list[Any] = [("settings", Annotated[command.settings, tyro.conf.arg(name="")]), ("output", Output)]
    flags = dataclasses.make_dataclass("Flags", fields)
    if command.presets is None:
        return flags
    presets = Annotated[_one_of(dict.fromkeys(command.presets(), flags)), tyro.conf.arg(name="")]
    return dataclasses.make_dataclass("Presets", [("preset", presets)])


def _one_of(tree: dict[str, Any]) -> Any:
    """A union of subcommands by name; a dictionary is one with subcommands of its own."""
    options = [
        Annotated[
            dataclasses.make_dataclass("Group", [("word", Annotated[_one_of(each), tyro.conf.arg(name="")])])
            if isinstance(each, dict)
            else each,
            tyro.conf.subcommand(name, prefix_name=False),
        ]
        for name, each in tree.items()
    ]
    # a union has at least two types
    return Union[tuple([*options, Annotated[None, tyro.conf.Suppress]] if len(options) == 1 else options)]  # noqa: UP007
