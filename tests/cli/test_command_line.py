"""Help, version, JSON and imports of the command, as a shell sees them."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from postmean.cli.main import COMMANDS
from postmean.cli.main import run as in_process
from postmean.contract.image_store import ImageStore
from postmean.contract.presets import PRESETS
from postmean.training.presets import PRESETS as TRAININGS
from tests.support.runs import postmean, without_progress


def test_help_lists_every_command() -> None:
    began = time.perf_counter()
    done = postmean("--help")
    print(f"postmean --help: {time.perf_counter() - began:.2f} s")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    assert postmean().returncode == 2


def test_help_of_generate_lists_its_flags_and_says_whose_they_are() -> None:
    began = time.perf_counter()
    done = postmean("generate", "edm-cifar10", "--help")
    print(f"postmean generate edm-cifar10 --help: {time.perf_counter() - began:.2f} s")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(
        flag in done.stdout for flag in ("--store PATH", "--out STR", "--noise {lognormal,ct,ict,ect,", "--estimator")
    )
    assert "--shard-seconds" not in done.stdout
    listed = postmean("generate", "--help-all").stdout
    assert all(name in listed for name in PRESETS)
    assert all(flag in listed for flag in ("--self-contained", "--noise.P-mean", "--shard-seconds", "--quiet"))


def test_help_groups_the_flags_and_a_plan_has_only_those_it_uses(capsys: pytest.CaptureFixture[str]) -> None:
    groups, flags = {}, {}
    for command in ("generate", "serve", "plan"):
        with pytest.raises(SystemExit, match="0"):
            in_process(command, ["edm-cifar10", "--help-all"])
        text = capsys.readouterr().out
        groups[command] = re.findall(r"(\w+) options +[─\n]", text)
        flags[command] = set(re.findall(r"--[a-z][a-z-]+", text))
    shared = ["recipe", "process", "noise", "estimator", "shards", "actor"]
    assert groups["generate"] == [*shared, "fleet", "follow", "output"]
    assert groups["serve"] == [*shared, "fleet", "output"]
    assert groups["plan"] == [*shared, "sample", "machines", "output"]
    assert "--exact" in flags["plan"]
    assert not flags["plan"] & {"--out", "--delete-consumed", "--ahead", "--attempts", "--shard-seconds", "--dry-run"}
    assert {"--out", "--delete-consumed", "--ahead", "--attempts", "--dry-run"} <= flags["generate"]


def test_help_waits_for_no_heavy_module_and_fits_a_screen() -> None:
    presets = {"plan": PRESETS, "train": TRAININGS}
    general = [f"{each} {name} --help" for each, names in presets.items() for name in names if "-" not in name]
    reports = [f"report {what} --help" for what in ("run", "store", "training", "estimators", "hybrid")]
    lines = ["--help", *(f"{name} --help" for name in COMMANDS), *general, *reports, "train ict --help-all"]
    code = (
        "import contextlib, io, sys; from postmean.cli.main import main\n"
        f"for line in {lines!r}:\n"
        "    sys.argv = ['postmean', *line.split()]\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit): main()\n"
        "    loaded = {'torch', 'ray', 'faiss', 'zarr', 'scipy', 'numpy', 'PIL'} & sys.modules.keys()\n"
        "    rows = sum(max(1, -(-len(row) // 80)) for row in said.getvalue().splitlines())\n"
        "    print(line, '-', *sorted(loaded), rows)"
    )
    terminal = os.environ | {"COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=terminal)
    found = [line.rpartition("- ") for line in done.stdout.splitlines()]
    assert [line.strip() for line, _, _ in found] == lines
    assert all(rest.isdigit() for _, _, rest in found), done.stdout
    assert all(3 < int(rest) <= 50 for line, _, rest in found if "all" not in line), done.stdout


def test_version_and_unknown_commands() -> None:
    assert postmean("--version").stdout.startswith("postmean ")
    for word, said in (
        ("frobnicate", ": it is one of import, "),
        ("verfy", ": did you mean verify? It is one of import, "),
    ):
        done = postmean(word)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"postmean: no command {word!r}{said}index, plan, ")


def test_status_of_a_folder_without_a_run_is_no_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process("status", [str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}: nothing there\n"


def test_contract_imports_neither_torch_nor_ray() -> None:
    code = (
        "import importlib, pkgutil, sys, postmean.contract as contract\n"
        "for module in pkgutil.iter_modules(contract.__path__):\n"
        "    importlib.import_module(f'postmean.contract.{module.name}')\n"
        "print({'torch', 'ray', 'faiss', 'zarr', 'tyro'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_index_json_is_one_document(store: ImageStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process("index", [str(store.path), "--index=ivf4-sq8", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"self_join", "certified_sigma", "index"} <= report.keys()
    assert Path(report["index"]).is_file()


def test_json_of_plan_and_verify_is_all_there_is_on_stdout(
    store: ImageStore, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert in_process("plan", ["edm-digits", f"--store={store.path}", "--tuples=500", "--json"]) == 0
    plan = capfd.readouterr()
    assert json.loads(plan.out)["tuples"] == 500
    assert in_process("verify", [str(finished), f"--store={store.path}", "--json"]) == 0
    verify = capfd.readouterr()
    assert json.loads(verify.out)["problems"] == []
    assert without_progress(plan.err + verify.err) == ""


def test_a_reader_that_goes_away_is_no_traceback(finished: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "postmean", "status", str(finished)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert "Traceback" not in done.stderr
    assert done.returncode == 141
