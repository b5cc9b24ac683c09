import json
import subprocess
import sys

import pytest

from postmean.cli.main import run
from postmean.contract.image_store import ImageStore
from tests.support.image_files import class_files, make_source, random_images


@pytest.fixture
def source(tmp_path):
    return make_source(tmp_path, "tar.xz", class_files(random_images(6)))


def test_summary_names_what_was_made(source, tmp_path, capsys):
    assert run("import", [str(source), str(tmp_path / "store")]) == 0
    line = capsys.readouterr().out
    header = ImageStore.open(tmp_path / "store").header
    assert line.startswith(f"{tmp_path}/store: 6 images of 3x5x6, 3 classes, ")
    assert line.endswith(f"fingerprint {header.fingerprint[:12]}\n")


def test_json_summary_is_one_document(source, tmp_path, capsys):
    assert run("import", [str(source), str(tmp_path / "store"), "--json", "--channels", "grey"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["images"], report["shape"], report["classes"], report["converted"]) == (6, [1, 5, 6], 3, 6)
    assert report["bytes"] == sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    assert report["fingerprint"] == ImageStore.open(tmp_path / "store").header.fingerprint


def test_notes_go_to_stderr_and_are_not_said_with_quiet(tmp_path, capsys):
    source = make_source(tmp_path, "zip", class_files(random_images(6)) | {"read.me": b"x"})
    assert run("import", [str(source), str(tmp_path / "store")]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert "note: read.me is not read\n" in err
    assert run("import", [str(source), str(tmp_path / "quiet"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert run("import", [str(source), str(tmp_path / "json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == ["read.me is not read"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--resolution", "32"], "give both, such as --resize center-crop --resolution 64, or neither"),
        (["--resize", "center-crop"], "give both"),
        (["--resize", "center-crop", "--resolution", "0"], "resolution: expected 1..4096 pixels, got 0"),
        (["--workers", "0"], "workers: expected at least 1, got 0"),
        (["--split", "val"], "no train, test or val folders in it: leave out --split val"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(source, tmp_path, capsys, flags, message):
    assert run("import", [str(source), str(tmp_path / "store"), *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "store").exists()


def test_unknown_values_end_with_code_2():
    assert run("import", ["only-a-source", "--kind", "lmdb"]) == 2


def test_an_unknown_flag_ends_with_code_2():
    assert run("import", ["only-a-source", "--no-such-flag"]) == 2


def test_missing_paths_end_with_code_2(tmp_path, capsys):
    assert run("import", []) == 2
    assert "missing SOURCE" in capsys.readouterr().err
    assert run("import", ["only-a-source"]) == 2
    assert "no store: give the path of the image store to make" in capsys.readouterr().err


def test_help_loads_neither_numpy_nor_pillow():
    code = (
        "import sys; from postmean.cli.main import run\n"
        "try: run('import', ['--help'])\n"
        "except SystemExit: print({'numpy', 'PIL', 'torch'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
