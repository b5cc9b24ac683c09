"""Parsing of every command into a frozen dataclass of settings, by tyro.

Precedence: flags > --config > preset > default. Unknown flags and values out of range end with exit code 2.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from postmean.base.config_file import Unpack, read_settings, write_settings
from postmean.base.environment import set_store_cache
from postmean.base.errors import ConfigError
from postmean.base.flag_tree import Flag, flags_of, kind_flags, kinds, parts
from postmean.base.flags import FlagGroup
from postmean.base.log import set_verbosity
from postmean.base.output import Output
from postmean.base.suggest import choice, preset_choice, suggestion

T = TypeVar("T")
Presets = Mapping[str, tuple[str, T]]
"""Name -> (one-line description, settings)."""
OF_EVERY_COMMAND = "Every command has --config FILE, --json, --quiet, --verbose."


@dataclass(frozen=True, kw_only=True)
class CommandLine(Generic[T]):
    """The flags of a command."""

    name: str
    """What follows `postmean`."""
    settings: type[T]
    """Dataclass whose fields are the flags."""
    summary: str
    main: str
    """Flags that --help shows, without dashes; --help-all shows the others too."""
    presets: Callable[[], Presets[T]] | None = None
    """Settings to start from, one of which is the first argument; None: the command has no presets."""
    choices: Mapping[str, Callable[[], Iterable[str]]] = field(default_factory=dict)
    """Flag -> its allowed values, where the dataclass does not know them."""
    unpack: Unpack = lambda plain, path: plain
    """Takes the settings out of a file given as --config."""

    def parse(self, argv: Sequence[str]) -> tuple[T, Output]:
        """The settings and the common flags.

        Raises:
            ConfigError: no such preset or flag, an unusable --config, a missing flag, or a value of a wrong type.
            SystemExit: after --help.
        """
        presets = self.presets() if self.presets else {}
        words, preset = _take_preset(list(argv), presets, self.name)
        wants_help = bool({"-h", "--help", "--help-all"} & {*words})
        base = presets[preset][1] if preset else None
        if (file := _value(words, "config")) is not None:
            base = read_settings(self.settings, Path(file), base, self.unpack)
        if self.presets and base is None and not wants_help:
            raise ConfigError(f"no preset: pass one of {', '.join(presets)}, or --config FILE")
        chosen = self._kinds(words, base)
        if not wants_help:
            self._check_names(words, chosen)
        shown = self.main.split() if "--help-all" not in words and wants_help else None
        settings, output = self._run_tyro(["--help"] if wants_help else words, base, chosen, preset, shown)
        set_verbosity(output.quiet, output.verbose)
        if output.store_cache is not None:
            set_store_cache(output.store_cache)
        if output.save_config is not None:
            write_settings(settings, output.save_config)
        return settings, output

    def _kinds(self, words: list[str], base: T | None) -> dict[str, str]:
        """Flag -> kind, of those flags that choose a kind and whose kind is known."""
        defaults = _kinds_in(base if base is not None else self.settings)
        chosen = {}
        for flag, options in kind_flags(self.settings).items():
            given = _value(words, flag)
            if given is not None and given not in options:
                raise ConfigError(f"--{flag}: no kind {given!r}{choice(given, options)}")
            chosen[flag] = given or defaults.get(flag, "")
        return chosen

    def flags(self, argv: Sequence[str]) -> list[Flag]:
        """The flags and arguments that may follow these words, which need not be right."""
        presets = self.presets() if self.presets else {}
        base = next((presets[word][1] for word in argv if word in presets), None)
        defaults = _kinds_in(base if base is not None else self.settings)
        given = {flag: _value(argv, flag) or "" for flag in kind_flags(self.settings)}
        return self._flags({flag: kind or defaults.get(flag, "") for flag, kind in given.items()})

    def _flags(self, chosen: Mapping[str, str]) -> list[Flag]:
        found = [*flags_of(self.settings, chosen), *flags_of(Output, {})]
        return [
            each._replace(type=Literal[tuple(self.choices[each.name]())]) if each.name in self.choices else each
            for each in found
        ]

    def _check_names(self, words: list[str], chosen: Mapping[str, str]) -> None:
        """Refuse unknown flags here: tyro would first name the required flags that are missing."""
        known = [flag.name for flag in self._flags(chosen) if not flag.is_positional]
        for word in words:
            given = word.partition("=")[0]
            flag = given.removeprefix("--").replace("_", "-")
            if given.startswith("--") and flag not in known and flag.removeprefix("no-") not in known:
                near = suggestion(flag, known).replace("mean ", "mean --")
                raise ConfigError(f"no flag {given}{near or f': `postmean {self.name} --help-all` lists them'}")

    def _run_tyro(
        self, words: list[str], base: T | None, chosen: Mapping[str, str], preset: str, shown: list[str] | None
    ) -> tuple[T, Output]:
        import tyro

        from postmean.base.tyro_errors import one_line_errors
        from postmean.base.tyro_rules import Rules

        settings = Annotated[self.settings, tyro.conf.arg(name="")]
        fields: list[Any] = [
            ("settings", settings, tyro.MISSING_NONPROP if base is None else base),
            ("output", Output, Output()),
        ]
        arguments = dataclasses.make_dataclass("Arguments", fields, namespace={"__doc__": ""})
        short = (tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff) if shown is not None else ()
        choices = {flag: tuple(values()) for flag, values in self.choices.items()}
        command = " ".join(["postmean", self.name, *([preset or "PRESET"] if self.presets else [])])
        with Rules(chosen, choices, shown).registry, one_line_errors(command):
            parsed = tyro.cli(
                arguments,
                args=words,
                prog=command,
                description=self._description(preset, shown),
                config=(tyro.conf.AvoidSubcommands, tyro.conf.PositionalMetavarFromFieldName, *short),
            )
        return parsed.settings, parsed.output

    def _description(self, preset: str, shown: list[str] | None) -> str:
        lines = [self.summary]
        if self.presets:
            presets = self.presets()
            general = [name for name in presets if "-" not in name]
            if preset:
                lines.append(f"Preset {preset}: {presets[preset][0]}.")
            elif shown is None or not general:
                lines.append(f"PRESET is one of {', '.join(presets)}: `postmean config` describes them.")
            else:
                example = next(name for name in presets if "-" in name)
                names = f"{', '.join(general)}, or one of a data set, such as {example}"
                lines.append(f"PRESET is {names}: `postmean config` describes them all.")
        if shown is not None:
            lines.append(f"All flags: --help-all. {OF_EVERY_COMMAND}")
        return "\n\n".join(lines)


def _take_preset(words: list[str], presets: Presets[Any], command: str) -> tuple[list[str], str]:
    """The words without the preset, which is the first of them or the value of --preset; "" if there is none."""
    if not presets:
        return words, ""
    preset = _value(words, "preset")
    if preset is not None:
        at = next(i for i, word in enumerate(words) if _is(word, "preset"))
        del words[at : at + (1 if "=" in words[at] else 2)]
    elif words and not words[0].startswith("-"):
        preset = words.pop(0)
    if preset is not None and preset not in presets:
        raise ConfigError(f"no preset {preset!r}{preset_choice(preset, presets, command)}")
    return words, preset or ""


def _value(words: Sequence[str], flag: str) -> str | None:
    """The last value of a flag, as `--flag value` or `--flag=value`; None if it is not given."""
    found = None
    for at, word in enumerate(words):
        if _is(word, flag):
            found = word.partition("=")[2] if "=" in word else "".join(words[at + 1 : at + 2])
    return found


def _is(word: str, flag: str) -> bool:
    return word.partition("=")[0].replace("_", "-") == f"--{flag.replace('_', '-')}"


def _kinds_in(settings: Any) -> dict[str, str]:
    """Flag -> kind of the parts that these settings, or the defaults of this dataclass, have."""
    found = {}
    for name, flag, hint in parts(settings if isinstance(settings, type) else type(settings)):
        value = getattr(settings, name, None)
        if isinstance(value, FlagGroup):
            found |= _kinds_in(value)
        elif kinds(hint):
            found[flag] = getattr(value, "kind", "")
    return found
