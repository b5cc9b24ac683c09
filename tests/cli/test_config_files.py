"""Settings from files: what is printed and written can be given back, flags go before files before presets."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from postmean.base.command_line import CommandLine
from postmean.base.config_file import read_settings, to_plain
from postmean.base.flag_tree import kind_flags
from postmean.cli.commands import COMMANDS
from postmean.cli.main import run as postmean
from postmean.contract.noise import ECTNoise, ICTNoise, LogNormalNoise
from tests.support.runs import assert_one_line
from tests.support.small_training import CONFIG

PATHS: dict[str, list[str]] = {
    "plan": ["--store=s"],
    "generate": ["--store=s", "--out=o"],
    "serve": ["--store=s"],
    "train": ["--targets=t", "--store=s", "--out=o"],
}


def command(name: str) -> CommandLine[Any]:
    return COMMANDS[name].load().COMMAND


def settings(name: str, *words: object) -> Any:
    return command(name).parse([*map(str, words), *PATHS[name]])[0]


@pytest.mark.parametrize("name", PATHS)
def test_the_printed_settings_of_every_preset_are_the_preset(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    presets = command(name).presets()  # type: ignore[misc]
    for form in ("yaml", "json"):
        file = tmp_path / f"settings.{form}"
        assert postmean("config", ["ect", f"--command={name}", *(["--json"] if form == "json" else [])]) == 0
        file.write_text(capsys.readouterr().out)
        assert settings(name, f"--config={file}") == settings(name, "ect")
    for _, preset in presets.values():
        file.write_text(json.dumps(to_plain(preset)))
        assert read_settings(type(preset), file, None) == preset


def test_flags_go_before_the_file_and_the_file_before_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "tuples: 77\nseed: 5\nestimator: {tolerance: 1e-5, n: 9}\nrecipe: {noise: {P_mean: -1}}\nshards: {format: zarr}"
    )
    found = settings("generate", "edm2", f"--config={file}", "--seed=6", "--n", "10", "--noise.P-std=1.7")
    assert (found.tuples, found.seed, found.estimator.n, found.estimator.k) == (77, 6, 10, 2048)
    assert found.estimator.tolerance == 1e-5, "YAML 1.1 would read 1e-5 as text"
    assert found.recipe.noise == LogNormalNoise(P_mean=-1.0, P_std=1.7)
    assert found.shards.format == "zarr"
    file.write_text("recipe: {noise: {kind: ect, q: 4}, solver: euler}\n")
    assert settings("plan", "ict", "--config", file).recipe.noise == ECTNoise(q=4.0), "nothing of the preset's kind"
    assert settings("plan", "ict", "--config", file, "--noise=ict").recipe.noise == ICTNoise()


def test_a_kind_that_a_flag_chooses_has_its_own_defaults() -> None:
    assert settings("generate", "ict-digits", "--noise=ict").recipe.noise.s1 == 160, "the preset's"
    assert settings("generate", "edm", "--noise", "ict", "--noise.s1=160").recipe.noise == ICTNoise(s1=160)


NEEDED = {
    "process table": ["--process.t-knots", 1, 2, "--process.s-knots", 1, 1, "--process.sigma-knots", 1, 2],
    "network unet2d": ["--network.dropout", 0.0],
    "ema half-life": ["--ema.half-life-kimg", 1],
    "ema constant": ["--ema.decay", 0.9],
    "schedule constant": ["--schedule.warmup-kimg", 1],
    "schedule cosine": ["--schedule.end-kimg", 1],
    "schedule inverse-sqrt": ["--schedule.decay-kimg", 1],
}
FITS = {  # what else a kind needs of a training
    "ict": ["--loss=ict", "--preconditioning=cm", "--noise=ict", "--batch-size=1024"],
    "ect": ["--loss=ect", "--noise=ect"],
    "ct": ["--loss=ct", "--preconditioning=cm", "--noise=ct", "--batch-size=512"],
    "flow": ["--loss=flow", "--preconditioning=flow"],
    "scm": ["--preconditioning=trigflow"],
    "meanflow": ["--loss=meanflow", "--preconditioning=flow", "--noise=meanflow", "--network.second-time"],
}


@pytest.mark.parametrize("name", ["generate", "train"])
def test_every_kind_can_be_chosen(name: str) -> None:
    flags = kind_flags(command(name).settings)
    preset = settings(name, "edm")
    for flag, options in flags.items() if name == "generate" else list(flags.items())[2:]:
        for kind, cls in options.items():
            more = FITS.get(kind, []) if name == "train" else []
            needed = NEEDED.get(f"{flag} {kind}", [])
            words = [word for word in more if not word.startswith(f"--{flag}=")] + needed
            config = settings(name, "edm", f"--{flag}={kind}", *words)
            part = getattr(config if hasattr(config, flag) else config.recipe, flag)
            usual = getattr(preset if hasattr(preset, flag) else preset.recipe, flag)
            assert type(part) is cls and (needed or part == (usual if type(usual) is cls else cls()))


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_saved_settings_are_read_again(tmp_path: Path, suffix: str) -> None:
    file, words = tmp_path / f"s{suffix}", ["flow", "--tuples=9", "--estimator=stf", "--price=2.5", "--noise.mean=0.25"]
    before = settings("plan", *words, "--save-config", file)
    plain = json.loads(file.read_text()) if suffix == ".json" else yaml.safe_load(file.read_text())
    assert plain["recipe"]["noise"] == {"kind": "logit-normal-t", "mean": 0.25, "std": 1.0, "t_min": 0.001}
    assert command("plan").parse([f"--config={file}"])[0] == before


def test_the_config_of_a_run_makes_the_same_run(finished: Path, settings: list[str], capsys) -> None:
    made = command("generate").parse([*settings, f"--out={finished}"])[0]
    file = finished.parent / "config.json"
    assert postmean("generate", [*settings, f"--out={finished}", f"--save-config={file}"]) == 0
    capsys.readouterr()
    assert command("generate").parse([f"--config={file}"])[0] == made
    assert postmean("generate", [f"--config={file}"]) == 0
    assert "nothing written" in capsys.readouterr().out


def test_the_config_of_a_training_goes_on_with_it(tmp_path: Path) -> None:
    from postmean.training.resume import NEW, write_config
    from tests.support.settings import manifest

    out = tmp_path / "model"
    out.mkdir()
    write_config(out, CONFIG, manifest(), NEW, "name", targets="t", store="s")
    found = command("train").parse([f"--config={out}/config.json"])[0]
    assert (found.targets, found.store, found.out, found.start_from) == ("t", "s", out, "")
    assert all(getattr(found, f.name) == getattr(CONFIG, f.name) for f in dataclasses.fields(CONFIG))


MISTAKES = {
    "tuplse: 3": "unknown tuplse: did you mean tuples?",
    "recipe: {flisp: true}": "recipe: unknown flisp: did you mean flips?",
    "recipe: {noise: {kind: ict, P_men: 1}}": "recipe.noise: unknown P_men: did you mean P_mean?",
    "recipe: {noise: {kind: itc}}": "recipe.noise: kind 'itc' is not one of ",
    "tuples: many": "tuples: expected int, got 'many'",
    "tuples: yes": "tuples: expected int, got True",
    "tuples: 0": "--tuples: expected at least 1, got 0",
    "estimator: {name: knn}": "estimator 'knn': expected one of auto, ",
    "shards: {format: parquet}": "shards.format: 'parquet' is not one of 'webdataset', 'zarr'",
    "tuples: 3\ntuples: 4": "'tuples' is given twice",
    "recipe: {flips: true, flips: false}": "'flips' is given twice",
    "- 3": "expected names and values, such as `tuples: 20000`, got list",
    "": "expected names and values, such as `tuples: 20000`, got NoneType",
    "tuples: [3": "not a file of settings: while parsing a flow sequence",
    "a: !!python/object/apply:os.system [ls]": "could not determine a constructor for the tag",
    "store: {a: 1}": "store: expected str or Path, got dict",
    "\x00": "not a file of settings",
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: text[:30])
def test_mistakes_in_a_file_are_one_line(text: str, tmp_path: Path, capsys, store) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    assert postmean("plan", ["edm-digits", f"--config={file}", f"--store={store.path}"]) == 2
    assert_one_line(capsys.readouterr().err, "postmean plan: ", MISTAKES[text])


def test_a_file_that_is_not_there_or_not_text_is_one_line(tmp_path: Path, capsys) -> None:
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    (tmp_path / "twice.json").write_text('{"seed": 1, "seed": 2}')
    for name, said in (
        ("no.yaml", "No such file"),
        ("bytes.json", "not a file of"),
        ("twice.json", "'seed' is given"),
    ):
        assert postmean("plan", ["edm-digits", f"--config={tmp_path / name}"]) == 2
        assert_one_line(capsys.readouterr().err, said)
    assert postmean("plan", ["edm", "--store=s", f"--save-config={tmp_path}/no/s.yaml"]) == 2
    assert_one_line(capsys.readouterr().err, "cannot write: No such file or directory: pass another --save-config")
