"""Everything that README and docs show exists: commands, presets, flags, imports, links."""

import ast
import contextlib
import importlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from postmean.cli.main import COMMANDS, run
from postmean.contract.presets import PRESETS

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
WITH_PRESET = ("plan", "generate", "serve", "train")
WITH_TOPIC = {"report": ("estimators", "run", "store", "training", "hybrid")}


def fences(page: Path, *languages: str) -> list[str]:
    """Contents of the page's code fences of these languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [content for language, content in found if language in languages]


def commands(page: Path) -> list[list[str]]:
    """Words after `postmean` of every command line in a shell fence and in inline code."""
    lines = [line for fence in fences(page, "sh") for line in fence.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines += re.findall(r"`(postmean [^`]+)`", prose)
    words = [shlex.split(line, comments=True) for line in lines]
    return [found[1:] for found in words if found and found[0] == "postmean" and len(found) > 1]


@cache
def flags(command: str, topic: str) -> frozenset[str]:
    """Flags that `postmean COMMAND [TOPIC] --help-all` names."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as ended:
        run(command, [*([topic] if topic else []), "--help-all"])
    assert ended.value.code == 0
    return frozenset(re.findall(r"(?<![\w-])--?[a-zA-Z][\w.-]*", out.getvalue()))


def problems(words: list[str]) -> list[str]:
    """What is wrong with a command line."""
    command, *rest = words
    if command.startswith("-") or command.isupper():
        return []
    if command not in COMMANDS:
        return [f"no command {command!r}"]
    given = [word.split("=")[0] for word in rest if re.match(r"--?[a-zA-Z]", word)]
    topics = WITH_TOPIC.get(command, ())
    topic = rest[0] if rest and rest[0] in topics else "".join(topics[:1])
    if command in WITH_PRESET:
        topic = rest[0] if rest and rest[0] in PRESETS else "ict-cifar10"
        if rest and not rest[0].startswith("-") and rest[0] not in (*PRESETS, "PRESET", "..."):
            return [f"no preset {rest[0]!r}"]
    return [f"no flag {flag}" for flag in given if flag not in flags(command, topic)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_shown_has_its_flags(page: Path) -> None:
    wrong = [f"postmean {shlex.join(words)}: {p}" for words in commands(page) for p in problems(words)]
    assert not wrong


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    assert problems(["generate", "edm-digits", "--stores", "s"]) == ["no flag --stores"]
    assert problems(["generate", "edm-digit"]) == ["no preset 'edm-digit'"]
    assert problems(["make"]) == ["no command 'make'"]
    assert sum(len(commands(page)) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_shown_imports_from_the_public_modules(page: Path) -> None:
    for source in fences(page, "python"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "postmean":
                assert node.module in ("postmean.pipeline", "postmean.training")
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module} has no {name.name}"


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        found.add(next(name for n in range(99) if (name := f"{anchor}-{n}" if n else anchor) not in found))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = page.parent / target if target else page
        assert file.exists(), link
        assert not anchor or anchor in anchors(file), link


def test_anchors_are_those_that_github_makes() -> None:
    assert "machines-in-a-cloud-ray-up" in anchors(ROOT / "docs" / "running.md")
    assert "4-what-rounding-costs" in anchors(ROOT / "docs" / "certificate.md")
