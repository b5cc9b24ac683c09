"""Completion: what bash offers after some words, and that the scripts of other shells name the same."""

import shutil
import subprocess
from pathlib import Path

import pytest

from postmean.cli.commands import COMMANDS
from postmean.cli.main import run as postmean

ASK = """
source "$0"
words() { COMP_WORDS=(postmean "$@"); COMP_CWORD=$#; COMPREPLY=(); _tyro_postmean; echo "${COMPREPLY[@]}"; }
words ge
words generate edm-c
words generate edm --shard-s
words train ict-cifar10 --noise ""
words report ""
"""


def script(shell: str, path: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch, path.open("w") as file:
        patch.setattr("sys.stdout", file)
        assert postmean("completion", [shell]) == 0
    text = path.read_text()
    assert all(f"'{name}'" in text for name in COMMANDS)
    assert all(flag in text for flag in ("--records-per-shard", "--noise.P-mean", "--help-all", "--ema.half-life-kimg"))
    return path


def test_bash_completes_commands_presets_flags_and_values(tmp_path: Path) -> None:
    path = script("bash", tmp_path / "bash")
    done = subprocess.run(["bash", "-c", ASK, str(path)], capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["generate"],
        ["edm-cifar10"],
        ["--shard-seconds"],
        ["lognormal", "ict", "ect", "uniform-t", "logit-normal-t"],
        ["-h", "--help", "estimators"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_scripts_of_other_shells_name_every_command_and_parse(shell: str, tmp_path: Path) -> None:
    path = script(shell, tmp_path / shell)
    if (found := shutil.which(shell)) is not None:  # they may not be installed
        assert subprocess.run([found, "-n", path]).returncode == 0
