"""Every command in README and docs is one that its program takes, or stands in a block that says what it needs."""

import argparse
import contextlib
import io
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from postmean.base.command_line import CommandLine
from postmean.cli import report_hybrid, report_run, report_store, report_training, status
from postmean.cli.commands import COMMANDS
from postmean.cli.main import run
from tests.docs.shell_blocks import PAGES, ROOT, benchmark_commands, postmean_commands, shell_lines

OURS = {"postmean", "python", "make"}
INSTALLERS = {"pip", "uv"}
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def parse(words: list[str]) -> None:
    """Parse the words after `postmean` as the command does, without running it; raises if it refuses them."""
    name, *rest = words
    if name.startswith("-"):
        assert name in ("--help", "--version")
        return
    if "--help" in rest or "--help-all" in rest:
        assert name in COMMANDS
        return
    modules = [COMMANDS[name].load()]
    if name == "report":
        modules += [report_hybrid, report_run, report_store, report_training]
        name = f"report {rest.pop(0)}"
    if name == "status":
        rest = status._with_address(rest)  # --serve may stand alone
    line: CommandLine[Any] = {module.COMMAND.name: module.COMMAND for module in modules}[name]
    line.parse(rest)


def parse_error(words: list[str]) -> str:
    """What the command says against the words, empty if nothing."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parse(words)
    except (Exception, SystemExit) as error:
        return f"{error}: {said.getvalue()}"
    return ""


@by_page
def test_the_commands_parse(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in shell_lines(page):
        for words in postmean_commands(line.words):
            made = re.match(r"config\.json|.+", words[words.index("--config") + 1]) if "--config" in words else None
            if made and not Path(made[0]).exists():
                pytest.fail(f"{shlex.join(words)}: no line above it makes {made[0]}")
            if words[0] == "config" and line.words[-2] == ">":  # the lines below it may read the file
                with Path(line.words[-1]).open("w") as file, contextlib.redirect_stdout(file):
                    assert run("config", words[1:]) == 0
            assert not parse_error(words), f"postmean {shlex.join(words)}"


class _ParsedError(Exception):
    """The script has parsed its arguments."""


@by_page
def test_the_benchmarks_take_their_arguments(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(self: argparse.ArgumentParser, *arguments: object) -> None:
        parse_args(self, *arguments)  # type: ignore[arg-type]
        raise _ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    for script, *arguments in benchmark_commands(page):
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        with pytest.raises(_ParsedError):
            runpy.run_path(str(ROOT / script), run_name="__main__")


@by_page
def test_programs_of_others_are_in_blocks_that_say_what_they_need(page: Path) -> None:
    for line in shell_lines(page):
        words = [word for word in line.words if not re.match(r"[A-Z_]+=", word)]
        program = words[0] if words else "export"
        assert line.marked or program in OURS | INSTALLERS | {"export"}, shlex.join(line.words)
        if program == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        for word in line.words:
            if re.fullmatch(r"infra/\S+|\w+\.yaml", word) and program != "postmean":
                assert (ROOT / word).exists() or ">" in line.words


def test_commands_that_are_wrong_would_be_noticed() -> None:
    assert "stores" in parse_error(["generate", "edm-digits", "--stores", "s", "--out", "o"])
    assert "several" in parse_error(["index", "s", "--nearest", "several"])
    assert parse_error(["report", "nothing", "s"])
    assert sum(len(postmean_commands(line.words)) for page in PAGES for line in shell_lines(page)) > 60
    assert sum(len(benchmark_commands(page)) for page in PAGES) > 25


def test_commands_that_others_start_are_found() -> None:
    line = ["ray", "exec", "--tmux", "cd postmean && RAY_ADDRESS=auto .venv/bin/postmean verify targets"]
    assert postmean_commands(line) == [["verify", "targets"]]
    assert postmean_commands(shlex.split("postmean serve edm --store s & sleep 1")) == [
        ["serve", "edm", "--store", "s"]
    ]
    assert postmean_commands(["sbatch", "--nodes=2", "train.sbatch", "edm"]) == [["train", "edm"]]
