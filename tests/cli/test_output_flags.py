"""--quiet, --verbose and NO_COLOR, as a shell and a terminal see them."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from postmean.base.log import log_event, set_verbosity, tell
from postmean.cli.main import run as postmean


def test_levels(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTMEAN_LOG", raising=False)
    lines = {}
    for name, flags in (("quiet", {"quiet": True}), ("plain", {}), ("verbose", {"verbose": True})):
        set_verbosity(**flags)
        tell("resumed", "resumed from step 3", step=3)
        log_event("shard failed", shard=7, cause="a cause")
        lines[name] = capsys.readouterr().err.splitlines()
    set_verbosity()
    told, event = "resumed from step 3", "shard failed: shard 7, cause a cause"
    assert lines == {"quiet": [], "plain": [told], "verbose": [told, event]}


def test_quiet_leaves_the_report_and_errors(
    store, finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    from postmean.base import progress

    monkeypatch.setattr(progress.Progress, "_print", lambda *_, **__: pytest.fail("progress was shown"))
    assert postmean("verify", [str(finished), f"--store={store.path}", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("all is well\n") and err == ""
    assert postmean("status", ["gopher://x", "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("postmean status: gopher://: no storage of this kind")
    assert postmean("status", ["gopher://x", "--verbose"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=str)
def test_a_terminal_gets_colours_unless_it_says_no(environment: dict[str, str]) -> None:
    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "postmean", "status", "--help"],
        stdout=terminal,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80"} | environment,
    )
    os.close(terminal)
    said = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        said += part
        if not part:
            break
    os.close(ours)
    assert process.wait() == 0
    assert b"Folder" in said
    assert (b"\x1b[" in said) == (not environment)
