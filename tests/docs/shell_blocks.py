"""The commands in the shell blocks and tables of README and docs."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_ENDS = {"&", "&&", "|", ";", ">"}


class Line(NamedTuple):
    """A line of a shell block."""

    words: list[str]
    marked: bool
    """Whether the block begins with a comment that says what it needs."""


def shell_lines(page: Path) -> list[Line]:
    """Every line of the blocks of shell, continued lines joined."""
    found = []
    for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                found.append(Line(words, block.startswith("# needs ")))
    return found


def postmean_commands(words: list[str]) -> list[list[str]]:
    """Words after each `postmean` of a line, also of one that another program starts."""
    found = []
    for place, word in enumerate(words):
        if " " in word:
            found += postmean_commands(shlex.split(word))
        elif (word == "postmean" or word.endswith("/bin/postmean")) and words[place - 1 : place] not in (
            ["-t"],
            ["secret"],
        ):
            rest = words[place + 1 :]
            end = next((n for n, each in enumerate(rest) if each in _ENDS or each.startswith(">")), len(rest))
            found += [rest[:end]] if end else []
        elif word.endswith((".sbatch",)) and words[0] == "sbatch":
            found.append([Path(word).stem, *words[place + 1 :]])
    return found


def benchmark_commands(page: Path) -> list[list[str]]:
    """Script and arguments of every `python benchmarks/X.py` in blocks, in code, and in tables headed by one."""
    text = page.read_text()
    lines = [line.words for line in shell_lines(page)]
    prose = re.sub(r"^```.*?^```|^\| `python [^\n]*", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [shlex.split(code) for code in re.findall(r"`(python [^`]+)`", prose)]
    for script, rows in re.findall(
        r"^\| `python (benchmarks/\w+\.py)` .*\n\|[-|]+\n((?:\| .*\n)+)", text, re.MULTILINE
    ):
        lines += [["python", script, *shlex.split(flags)] for flags in re.findall(r"^\| `(.+?)`", rows, re.MULTILINE)]
    found = []
    for words in lines:
        if words[:2] == ["python", "-m"] and words[2].startswith("benchmarks."):
            words = ["python", words[2].replace(".", "/") + ".py", *words[3:]]
        if words[0] == "python" and words[1].startswith("benchmarks/"):
            found.append(words[1 : words.index(">") if ">" in words else None])
    return found
