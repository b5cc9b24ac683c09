"""What a shell is offered after some words, asked as its script asks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from postmean.cli.commands import COMMANDS
from postmean.cli.completion import SCRIPTS, candidates
from postmean.cli.main import run as postmean
from postmean.contract.presets import PRESETS


def offered(line: str) -> set[str]:
    *before, word = line.split(" ")
    return {found for found in candidates([*before, word]) if found.startswith(word)}


NOISES = ("lognormal", "ct", "ict", "ect", "uniform-t", "logit-normal-t", "meanflow", "floor")


def test_commands_presets_flags_and_values_are_offered() -> None:
    assert offered("") == set(COMMANDS)
    assert offered("ge") == {"generate"}
    assert offered("generate ") == set(PRESETS)
    assert offered("train edm-d") == {"edm-digits"}
    assert offered("plan --preset edm2") == {"edm2", "edm2-imagenet64", "edm2-digits"}
    assert offered("generate edm --shard-s") == {"--shard-seconds"}
    assert offered("generate edm --no-") >= {"--no-flips", "--no-certificate"}
    assert offered("generate edm --noise ") == set(NOISES)
    assert offered("generate edm --noise=ic") == {"--noise=ict"}
    assert offered("generate --estimator knn") == {"knn-snis", "knn-stratified"}
    assert offered("report ") == {"run", "store", "training", "estimators", "hybrid"}
    assert offered("report run --o") == {"--out"} and offered("report run --qu") == {"--quiet"}
    assert offered("report nosuch --") == set()
    assert offered("config ") == set(PRESETS) and offered("config --com") == {"--command"}
    assert offered("report estimators --qu") == {"--quick", "--quiet"}
    assert offered("completion ") == set(SCRIPTS)
    assert offered("import --resize center") == {"center-crop", "center-crop-wide", "center-crop-dhariwal"}


def test_flags_are_those_of_the_kind_that_is_chosen() -> None:
    assert offered("train ict --noise.s1") == {"--noise.s1"}
    assert offered("train edm --noise.s1") == set()
    assert offered("train edm --noise ict --noise.s1") == {"--noise.s1"}
    assert offered("train edm --ema constant --ema.") == {"--ema.decay"}


@pytest.mark.parametrize("line", ["generate edm --store ", "index ", "index s", "generate edm --tuples ", "nosuch x "])
def test_files_and_numbers_are_left_to_the_shell(line: str) -> None:
    assert offered(line) == set()


def test_bash_asks_and_offers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert postmean("completion", ["bash"]) == 0
    script = tmp_path / "script"
    ask = (
        'ask() { COMP_WORDS=(postmean "$@"); COMP_CWORD=$#; COMPREPLY=(); _postmean; echo ${COMPREPLY[@]}; }\n'
        "ask gen; ask generate edm --noise = ic\n"
    )
    script.write_text(capsys.readouterr().out + ask)
    command = tmp_path / "postmean"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m postmean "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", script], capture_output=True, text=True, env=environment, timeout=300)
    assert (done.stdout, done.stderr) == ("generate\nict\n", "")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts_parse(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(SCRIPTS[shell])
    assert subprocess.run([shell, "-n", tmp_path / "script"]).returncode == 0
