"""Every argument that is a path: `~` is the home folder, a URL is refused where the path is local, nothing is made."""

from pathlib import Path

import numpy as np
import pytest

from postmean.cli.main import run
from postmean.contract.image_store import ImageStore, StoreWriter
from tests.support.image_files import class_files, make_source, random_images

TRAIN = ["train", "edm-digits", "--steps", "1"]
# a command and its arguments; PATH is the one in question, the others are what they should be
LOCAL = {
    "process table": ["generate", "edm-digits", "--store", "s.store", "--out", "run", "--process-table", "PATH"],
    "report": ["report", "estimators", "s.store", "--out", "PATH/new"],
    "network": ["report", "estimators", "s.store", "--out", "new", "--network", "PATH"],
    "model": [*TRAIN, "--targets", "run", "--store", "s.store", "--out", "PATH/new"],
    "checkpoint": ["sample", "PATH", "--out", "new"],
    "samples": ["sample", "model", "--out", "PATH/new"],
    "images": ["evaluate", "PATH", "--store", "s.store"],
    "checkpoint to evaluate": ["evaluate", "--checkpoint", "PATH", "--store", "s.store"],
    "demo": ["demo", "--out", "PATH/new"],
}
ANY = {
    "new store": ["import", "source", "PATH"],
    "store to index": ["index", "PATH"],
    "store to plan": ["plan", "edm-digits", "--store", "PATH"],
    "store to generate": ["generate", "edm-digits", "--store", "PATH", "--out", "run"],
    "store to serve": ["serve", "edm-digits", "--store", "PATH", "--port", "0"],
    "store to report": ["report", "estimators", "PATH", "--out", "new"],
    "store to train": [*TRAIN, "--targets", "run", "--store", "PATH", "--out", "new"],
    "store to evaluate": ["evaluate", "images", "--store", "PATH"],
    "source": ["import", "PATH", "new.store"],
    "run": ["generate", "edm-digits", "--store", "s.store", "--out", "PATH"],
    "run to verify": ["verify", "PATH", "--store", "s.store"],
    "run to look at": ["status", "PATH"],
    "targets": [*TRAIN, "--targets", "PATH", "--store", "s.store", "--out", "new"],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a source and a store; the home folder is another."""
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    make_source(tmp_path / "here", "folder", class_files(random_images(6)))
    with StoreWriter("s.store", None, {}) as writer:
        writer.append(np.zeros((4, 1, 8, 8), np.uint8), None)
        writer.finish()
    return tmp_path / "here"


def refusal(capsys, command):
    """What a command says when it fails by one line."""
    assert run(command[0], command[1:]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"postmean {command[0]}: ")
    return err


def with_path(command, path):
    return [argument.replace("PATH", path) for argument in command]


@pytest.mark.parametrize("name", LOCAL)
def test_url_in_place_of_a_local_path_is_refused_and_makes_nothing(here, capsys, name):
    before = sorted(here.iterdir())
    for path in ("s3://bucket/x", "gs://bucket/x", "s3:/bucket/x"):
        assert "a URL, but this must be on this machine" in refusal(capsys, with_path(LOCAL[name], path))
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize("name", [*LOCAL, *ANY])
def test_unknown_home_folder_is_refused_and_makes_nothing(here, capsys, name):
    before = sorted(here.iterdir())
    command = with_path((LOCAL | ANY)[name], "~nobody-has-this-name")
    assert "no user nobody-has-this-name" in refusal(capsys, command)
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize("name", ANY)
def test_broken_url_is_refused_and_makes_nothing(here, capsys, name):
    before = sorted(here.iterdir())
    assert "s3:/bucket/x: a URL" in refusal(capsys, with_path(ANY[name], "s3:/bucket/x"))
    assert sorted(here.iterdir()) == before


def test_commands_read_and_write_in_the_home_folder(here, capsys):
    home = here.parent / "home"
    (here / "source").rename(home / "source")
    assert run("import", ["~/source", "~/new.store"]) == 0
    assert ImageStore.open("~/new.store").path == home / "new.store"
    assert run("index", ["~/new.store"]) == 0
    assert (home / "new.store" / "index" / "self-join.npz").is_file()
    assert run("plan", ["edm-digits", "--store", "~/new.store", "--tuples", "256"]) == 0
    (home / "no-run").mkdir()
    assert run("status", ["~/no-run"]) == 0
    assert str(home / "no-run") in capsys.readouterr().out
    assert sorted(path.name for path in here.iterdir()) == ["s.store"]


@pytest.mark.parametrize("out", ["s.store", "./s.store", "link", "~/../here/s.store"])
def test_the_store_itself_is_no_output(here, capsys, out):
    (here / "link").symlink_to("s.store")
    before = sorted((here / "s.store").iterdir())
    for command in (
        ["generate", "edm-digits", "--store", "s.store", "--out", out],
        [*TRAIN, "--targets", "run", "--store", "s.store", "--out", out],
        ["sample", "model", "--out", out],
        ["report", "estimators", "s.store", "--out", out],
    ):
        assert "an image store: pass another --out" in refusal(capsys, command)
    assert "already there" in refusal(capsys, ["import", "source", out])
    assert sorted((here / "s.store").iterdir()) == before


def test_a_store_inside_its_source_is_refused(here, capsys):
    for store in ("source/new.store", "source/ant/new.store", str(Path("source/../source/x").absolute())):
        assert "inside the source" in refusal(capsys, ["import", "source", store])
    assert not list(here.glob("source/*.store"))


@pytest.mark.parametrize("name", ["report", "model", "samples", "demo"])
def test_output_that_can_be_no_folder_is_refused_at_once(here, capsys, name):
    (here / "file").touch()
    before = sorted(here.iterdir())
    for path in ("file", "x" * 300, "/proc/self"):
        assert "cannot write: " in refusal(capsys, with_path(LOCAL[name], path))
    assert sorted(here.iterdir()) == before


OUTPUTS = ("new store", "run", "report", "model", "samples", "demo")  # a line end in their names is no mistake
INPUTS = [name for name in [*LOCAL, *ANY] if name not in (*OUTPUTS, "run to look at")]


@pytest.mark.parametrize("name", INPUTS)
def test_names_too_long_or_with_line_ends_are_one_line(here, capsys, name):
    for path in ("x" * 300, "two\nlines"):
        refusal(capsys, with_path((LOCAL | ANY)[name], path))
