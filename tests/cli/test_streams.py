"""Commands where stdout and stderr are closed, full, gone or ASCII alone: they go on, or say so in one line."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

POSTMEAN = f"{sys.executable} -m postmean"
WORK = """
import os, sys, time
from postmean.base.streams import prepare_streams
prepare_streams()
from postmean.base import progress
class Clock:
    now = 0.0
    def monotonic(self):
        self.now += 20
        return self.now
progress.time = Clock()
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
with progress.Progress("work", 30, "units") as line:
    for done in range(30):
        line.update(done, "σ ü \\udcff")
        os.write(2, b"a library speaks\\n") if len(sys.argv) > 2 else None
os.write(file, b"the file's own")
print("done: σ ü \\udcff")
"""


def shell(command: str, **environment: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=os.environ | environment, timeout=300
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def work(tmp_path: Path, redirect: str, **environment: str) -> subprocess.CompletedProcess:
    script = tmp_path / "work.py"
    script.write_text(WORK)
    done = shell(f"{sys.executable} {script} {tmp_path}/file {redirect}", **environment)
    assert (tmp_path / "file").read_bytes() == b"the file's own"
    return done


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2>&- <&-", "2>&1 >/dev/null | true"])
def test_work_goes_on_without_a_stderr(tmp_path: Path, stderr: str) -> None:
    done = work(tmp_path, stderr)
    assert done.returncode == 0
    assert done.stdout.startswith("done: ") == ("true" not in stderr)


def test_a_closed_stderr_is_not_the_next_file(tmp_path: Path) -> None:
    """Nor is it what libraries write to."""
    assert work(tmp_path, "speak 2>&-").returncode == 0


def test_work_goes_on_when_the_terminal_is_gone(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(WORK)
    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "file"], stdout=subprocess.PIPE, stderr=terminal, text=True
    )
    os.close(terminal)
    os.close(ours)
    assert process.communicate(timeout=60)[0].startswith("done: ")
    assert process.returncode == 0


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONUTF8": "1"},
    ],
    ids=str,
)
def test_characters_that_the_encoding_lacks_are_escaped(tmp_path: Path, environment: dict[str, str]) -> None:
    done = work(tmp_path, "", **environment)
    assert done.returncode == 0
    said = "σ ü" if "PYTHONUTF8" in environment and environment["PYTHONUTF8"] == "1" else "\\u03c3 \\xfc"
    assert done.stdout == f"done: {said} \\udcff\n"
    assert f"{said} \\udcff" in done.stderr.splitlines()[0]


@pytest.mark.parametrize("words", ["status .", "status . --json", "--help", "--version"])
def test_a_report_that_cannot_be_written_is_one_line(words: str) -> None:
    done = shell(f"{POSTMEAN} {words} >/dev/full")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "stdout: cannot write: No space left on device" in done.stderr


def test_closed_streams_are_no_error() -> None:
    assert shell(f"{POSTMEAN} status . >&-").returncode == 0
    assert shell(f"{POSTMEAN} status gopher://x >&- 2>&- <&-").returncode == 2


@pytest.mark.parametrize("command", ["--help", "generate --help"])
def test_help_can_be_read_in_ascii(command: str) -> None:
    done = shell(f"{POSTMEAN} {command}", PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0 and done.stdout.isascii() and "usage: postmean" in done.stdout
