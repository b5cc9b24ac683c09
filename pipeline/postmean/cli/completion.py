"""`postmean completion SHELL`: a script by which a shell asks this command what may follow the words so far.

tyro's own scripts hold all flags of every preset: 800 kB, of which fish makes one argument of a process, and Linux
allows 128 kB.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from tyro.conf import Positional

from postmean.base.command_line import CommandLine
from postmean.cli.commands import COMMANDS

SCRIPTS = {
    "bash": r"""_postmean() {
  local IFS=$'\n'
  COMPREPLY=($(postmean completion --words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _postmean postmean
""",
    "zsh": r"""#compdef postmean
_postmean() {
  local -a found
  found=("${(@f)$(postmean completion --words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n $found ]]; then compadd -- $found; else _files; fi
}
if [[ $funcstack[1] == _postmean ]]; then _postmean "$@"; else compdef _postmean postmean; fi
""",
    "fish": r"""function __postmean_words
  set -l word (commandline -ct)
  postmean completion --words (commandline -opc)[2..] "$word" 2>/dev/null
end
complete -c postmean -a '(__postmean_words)'
""",
}


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
    """Entry point of the command; with --words, which only the scripts pass, it prints what may follow."""
    if argv[:1] == ["--words"]:
        words = [word for word in argv[1:-1] if word != "="]  # bash makes three words of --noise=ict
        words.append(argv[-1] if argv[1:] and argv[-1] != "=" else "")
        sys.stdout.write("".join(f"{word}\n" for word in candidates(words) if word.startswith(words[-1])))
        return 0
    config, _ = COMMAND.parse(argv)
    sys.stdout.write(SCRIPTS[config.shell])
    return 0


def candidates(words: Sequence[str]) -> Iterator[str]:
    """What may stand in place of the last word; nothing where it is the name of a file, or a number.

    Args:
        words: at least one; without `postmean`.
    """
    name, *before = words[:-1] or [""]
    if not name:
        yield from COMMANDS
    elif name in COMMANDS:
        module = COMMANDS[name].load()
        topics: dict[str, CommandLine[Any]] = getattr(module, "TOPICS", {})
        if topics and not before:
            yield from topics
        elif not topics or before[0] in topics:
            command = topics[before.pop(0)] if topics else module.COMMAND
            if name == "config" and not before and not words[-1].startswith("-"):
                yield from module.known_presets("generate")
            yield from _of_command(command, before, words[-1])


def _of_command(command: CommandLine[Any], before: list[str], word: str) -> Iterator[str]:
    flag, equals, _ = word.partition("=")
    if equals and flag.startswith("--"):
        yield from (f"{flag}={value}" for value in _of_command(command, [*before, flag], ""))
        return
    flags = command.flags(before)
    by_name = {f"--{each.name}": each for each in flags if not each.is_positional}
    presets = command.presets() if command.presets is not None else {}
    last = by_name.get(before[-1]) if before else None
    if last is not None and last.type is not bool:
        yield from _values(last.type)
    elif before and before[-1] == "--preset":
        yield from presets
    elif word.startswith("-"):
        yield from by_name
        yield from (f"--no-{each.name}" for each in by_name.values() if each.type is bool)
        yield from ("--help", *(["--preset"] if presets else []))
    elif not before:
        yield from presets
        yield from (value for each in flags if each.is_positional for value in _values(each.type))


def _values(annotation: Any) -> tuple[str, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()
