"""Every mistake of a user ends with one message, its own exit code and nothing written."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from postmean.cli.main import run as postmean
from postmean.contract.image_store import ImageStore
from tests.support.runs import assert_one_line, files_of
from tests.support.stores import digits_store

PRESET = "generate edm-digits"
DIGITS = "did you mean edm-digits? `postmean config` lists them all\n"
MISTAKES = {
    f"{PRESET} --store nowhere --out out": "nowhere: no image store there (no header.json): make one with `postmean im",
    f"{PRESET} --store STORE --out out --tuples 0": "--tuples: expected at least 1, got 0",
    f"{PRESET} --store STORE --out out --actors 0": "--actors: expected at least 1, got 0",
    f"{PRESET} --store STORE --out out --tolerance nan": "--tolerance: expected a mean squared error in [1e-07, 1)",
    f"{PRESET} --store STORE --out out --shard-seconds nan": "--shard-seconds: expected a positive number, got nan",
    f"{PRESET} --store STORE --out out --seed -1": "seed: expected 0 <= seed < 2^63, got -1",
    f"{PRESET} --store STORE --out out --noise.P-std 0": "noise: P_std must be positive and finite, got 0.0",
    f"{PRESET} --store STORE --out out --solver heun": "--solver heun: noise lognormal has no teacher point",
    "generate ect-cifar10 --store STORE --out out --no-flips --solver heun": "--solver heun: noise ect steps far",
    f"{PRESET} --store STORE --out out --tolerance 4e-8": "--tolerance: expected a mean squared error in [1e-07, 1)",
    f"{PRESET} --store STORE --out out --noise.P-mean -60": "noise: sigma from ",
    f"{PRESET} --store STORE --out out --process-table no.csv": "process table no.csv: FileNotFoundError",
    f"{PRESET} --store STORE --out ftp://host/run": "ftp://: no storage of this kind: pass the path of a folder",
    f"{PRESET} --store STORE --out out --estimator knn-snis --index hnsw": "index 'hnsw': expected exact, flat, sq8",
    f"{PRESET} --store STORE --out out --estimator knn-snis --index ivf4-sq8 --flips": (
        "no such index: build it with `postmean index STORE --index ivf4-sq8 --flips`"
    ),
    f"{PRESET} --store UNINDEXED --out out --conditional": (
        "no self-join for this store: make it with `postmean index UNINDEXED --conditional`"
    ),
    f"{PRESET} --store UNINDEXED --out out": "make it with `postmean index UNINDEXED`",
    "serve edm-digits --store STORE --tls-key key.pem": "--tls-certificate, --tls-key: one without the other",
    "serve edm-digits --store STORE --tls-key k.pem --tls-certificate no.pem": "--tls-certificate no.pem: no such file",
    "generate edm-mnist --store STORE --out out": f"no preset 'edm-mnist': {DIGITS}",
    "plan mnist --store STORE": "no preset 'mnist': it is one of edm, edm2, ict, ect, vp, flow, ct, scm, meanflow, ",
    "generate --preset=edm-digit --out out": f"no preset 'edm-digit': {DIGITS}",
    "generate": "no preset: pass one of edm, edm2, ict, ect, vp, flow, ct, scm, meanflow, edm-cifar10, ",
    f"{PRESET} --out out --stroe STORE": "no flag --stroe: did you mean --store?",
    f"{PRESET} --out out --store STORE --nosuch=3": "no flag --nosuch: `postmean generate --help-all` lists them",
    f"{PRESET} --out out --store STORE --noise.s1 3": "no flag --noise.s1: did you mean --noise?",
    f"{PRESET} --out out --store STORE --noise lognorm": "--noise: no kind 'lognorm': did you mean lognormal?",
    "verify FINISHED --store STORE --record 3": "no flag --record: did you mean --records?",
    "config edm-digit": f"no preset 'edm-digit' of generate: {DIGITS}",
    "config edm2 --command train": (
        "no preset 'edm2' of train: did you mean edm? `postmean config --command train` lists them all\n"
    ),
    "plan edm-digits --store nowhere": "nowhere: no image store there",
    "plan edm-digits --store STORE --fleet 2x9-h100": "--fleet 2x9-h100: expected here, or a number of nodes and their",
    "plan edm-digits --store STORE --images 0": "--images: expected at least 1, got 0",
    "plan edm-digits --store STORE --price nan": "--price: expected a positive number, got nan",
    "status nowhere": "postmean status: nowhere: no such folder: pass the folder or URL of a run",
    "status nowhere --serve": "postmean status: nowhere: no such folder: pass the folder or URL of a run",
    "report run nowhere": "postmean report: nowhere: no such folder: pass the folder or URL of a run",
    "verify nowhere --store STORE": "no run there: make one with `postmean generate`",
    "verify FINISHED --store nowhere": "nowhere: no image store there",
    "verify FINISHED --store UNINDEXED": "pass the --store that the targets were generated from",
    "verify FINISHED --store STORE --records -1": "--records: expected at least 0, got -1",
    "index nowhere": "nowhere: no image store there",
    "index STORE --index ivf999-flat": "index ivf999-flat: 999 lists for 150 entries: ask for fewer",
    "index STORE --tolerance 2": "--tolerance: expected a mean squared error in [1e-07, 1), got 2:",
    "index STORE --nearest 0": "--nearest: expected at least 1, got 0",
    "index STORE --threads 0": "--threads: expected at least 1, got 0",
    f"{PRESET} --store STORE --out out --estimator knn": (
        "--estimator: no 'knn': did you mean knn-snis? It is one of auto, knn-snis, "
    ),
    f"{PRESET} --store STORE --out out --format parquet": "--format: no 'parquet': it is one of webdataset, zarr: ",
    f"{PRESET} --store STORE --out out --tuples many": "--tuples: expected a whole number, got 'many': see `postm",
    f"{PRESET} --store STORE --out out --tuples 1e4": "--tuples: expected a whole number, got '1e4'",
    f"{PRESET} --store STORE --out out --tolerance low": "--tolerance: expected a number, got 'low': see `postmean",
    "report runn targets": "no report 'runn': did you mean run? It is one of run, store, training, ",
    "completion tcsh": "SHELL: no 'tcsh': it is one of bash, zsh, fish: see `postmean completion --help`",
    f"{PRESET} --store": "Missing value for argument '--store'",
    f"{PRESET} --store STORE": "missing --out STR: see `postmean generate edm-digits --help`",
    PRESET: "missing --store PATH|URL, --out STR: see `postmean generate edm-digits --help`",
    "plan edm-digits": "missing --store PATH|URL: see `postmean plan edm-digits --help`",
    "verify": "missing OUT, --store PATH|URL: see `postmean verify --help`",
    "verify a b --store STORE": "Unrecognized options: b: see `postmean verify --help`",
}


@pytest.fixture(scope="module")
def unindexed(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return digits_store(tmp_path_factory.mktemp("unindexed") / "store", 100)


@pytest.fixture
def call(store: ImageStore, unindexed: ImageStore, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a command line in an empty folder; STORE, UNINDEXED and FINISHED stand for paths."""
    paths = {"UNINDEXED": str(unindexed.path), "STORE": str(store.path), "FINISHED": str(finished)}
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> int:
        command, *arguments = [paths.get(word, word) for word in line.split()]
        return postmean(command, arguments)

    def named(message: str) -> str:
        for name, path in paths.items():
            message = message.replace(name, path)
        return message

    run.named = named  # type: ignore[attr-defined]
    yield run
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_end_with_one_line_and_code_2(line: str, call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert_one_line(err, f"postmean {line.split()[0]}: ", call.named(MISTAKES[line]))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("--seed=1", "seed is 0 there, 1 here"),
        ("--noise.P-mean=-1", "noise.P_mean is -1.2 there, -1.0 here"),
        ("--estimator=knn-snis", "estimator.name is 'exact' there, 'knn-snis' here"),
        ("--n=7", "estimator.n is 256 there, 7 here"),
        ("--format=zarr", "format is 'webdataset' there, 'zarr' here"),
        ("--flips", "flips is False there, True here"),
        ("--conditional", "conditional is False there, True here"),
        ("--no-certificate", "certificate is True there, False here"),
        ("--tolerance=1e-5", "tolerance is 1e-06 there, 1e-05 here"),
        ("--self-contained", "self_contained is False there, True here"),
        ("--records-per-shard=32", "records_per_shard is 64 there, 32 here"),
        ("--max-support=9", "max_support is 256 there, 9 here"),
        ("--threads-per-actor=2", "threads_per_actor is 1 there, 2 here"),
    ],
)
def test_other_settings_on_the_same_out_are_refused_naming_the_field(
    finished: Path, settings: list[str], capsys: pytest.CaptureFixture[str], change: str, field: str
) -> None:
    before = stamps(finished)
    assert postmean("generate", [*settings, f"--out={finished}", change]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert_one_line(err, "belongs to another run", field, "pass the same settings or another --out")
    assert stamps(finished) == before


def test_a_run_is_never_shortened(finished: Path, settings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = stamps(finished)
    assert postmean("generate", [*settings, f"--out={finished}", "--tuples=599"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert_one_line(err, "tuples is 600 there, 599 here: a run is never shortened", "pass --tuples 600 or more")
    assert stamps(finished) == before


def test_fewer_tuples_are_refused_with_the_number_that_is_there(finished: Path, settings: list[str], capsys) -> None:
    before = stamps(finished)
    assert postmean("generate", [*settings, f"--out={finished}", "--tuples=599"]) == 2
    assert_one_line(capsys.readouterr().err, "tuples is 600 there, 599 here: a run is never shortened")
    assert stamps(finished) == before


def test_several_differences_are_all_named(finished: Path, settings: list[str], capsys) -> None:
    assert postmean("generate", [*settings, f"--out={finished}", "--seed=3", "--n=9", "--noise.P-std=2"]) == 2
    assert_one_line(capsys.readouterr().err, "seed is 0", "estimator.n is 256", "noise.P_std is 1.2")


def test_another_store_is_refused(finished: Path, settings: list[str], unindexed: ImageStore, capsys) -> None:
    assert postmean("generate", [*settings, f"--out={finished}", f"--store={unindexed.path}"]) == 2
    assert_one_line(capsys.readouterr().err, "store_fingerprint", "store_shape")


def test_a_finished_run_says_so_and_writes_nothing(finished: Path, settings: list[str], capsys) -> None:
    before = stamps(finished)
    assert postmean("generate", [*settings, f"--out={finished}"]) == 0
    assert_one_line(capsys.readouterr().out, "finished already: ", "nothing written")
    assert postmean("generate", [*settings, f"--out={finished}", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["written"], report["retries"]) == (0, 0)
    assert stamps(finished) == before


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Modification times of the folder and everything below it."""
    paths = [folder, *folder.rglob("*")]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}


@pytest.mark.parametrize("keep", [0, 1, 300])
def test_a_truncated_manifest_is_refused_with_the_remedy(run: Path, settings: list[str], capsys, keep: int) -> None:
    os.truncate(run / "manifest.json", keep)
    for command in (["generate", *settings, f"--out={run}"], ["verify", str(run), settings[1]]):
        assert postmean(command[0], command[1:]) == 2
        assert_one_line(capsys.readouterr().err, "manifest.json: not JSON", "generate again into another folder")


def test_a_run_without_its_manifest_is_not_mistaken_for_an_empty_folder(run: Path, settings: list[str], capsys) -> None:
    (run / "manifest.json").unlink()
    before = files_of(run)
    assert postmean("generate", [*settings, f"--out={run}", "--seed=1"]) == 3
    assert_one_line(capsys.readouterr().err, "shards of a run without a manifest: remove the folder or pass another")
    assert files_of(run) == before


@pytest.mark.parametrize("name", ["plan.parquet", "certified_sigma.npy"])
@pytest.mark.parametrize("keep", [0, 200])
def test_a_truncated_plan_or_certificate_is_refused_and_made_again_once_removed(
    run: Path, settings: list[str], finished: Path, capsys, name: str, keep: int
) -> None:
    os.truncate(run / name, keep)
    for command in (["generate", *settings, f"--out={run}"], ["verify", str(run), settings[1]]):
        assert postmean(command[0], command[1:]) == 2
        assert_one_line(capsys.readouterr().err, name)
    (run / name).unlink()
    assert postmean("generate", [*settings, f"--out={run}"]) == 0
    assert "nothing written" in capsys.readouterr().out
    assert files_of(run) == files_of(finished)


def test_a_truncated_commit_is_no_commit(run: Path, settings: list[str], store: ImageStore, capsys) -> None:
    os.truncate(run / "commits/000002.json", 40)
    assert postmean("verify", [str(run), f"--store={store.path}"]) == 4
    assert "1 of 6 shards are missing: run the same `postmean generate` again" in capsys.readouterr().err


def test_an_index_that_cannot_be_written_is_one_line(store: ImageStore, tmp_path: Path, capsys) -> None:
    if os.getuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a read-only folder")
    copy = tmp_path / "store"
    shutil.copytree(store.path, copy, ignore=shutil.ignore_patterns("index"))
    for options in (["--bind", str(copy)], ["-o", "remount,bind,ro"]):
        if subprocess.run(["mount", *options, str(copy)], capture_output=True).returncode:
            pytest.skip("mounting is not permitted here")
    try:
        assert postmean("index", [str(copy)]) == 2
    finally:
        subprocess.run(["umount", "-l", copy], check=True)
    assert_one_line(capsys.readouterr().err, "cannot write: Read-only file system: free space or make it writable")


def test_an_out_that_cannot_be_written_is_one_line(settings: list[str], tmp_path: Path, capsys) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    assert postmean("generate", [*settings, f"--out={file}/run"]) == 3
    assert_one_line(capsys.readouterr().err, "cannot write: Not a directory")
    assert file.read_text() == "in the way"
