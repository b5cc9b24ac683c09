"""LocalStorage: whole objects or nothing, and nothing outside its root."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postmean.base.errors import ConfigError, GenerationError, ShardError
from postmean.storage.local import LocalStorage
from postmean.storage.open import open_storage
from postmean.storage.storage import check_path


def test_unfinished_files_are_not_listed(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    storage.put("commits/1", b"")
    (tmp_path / "commits" / ".1.00ff.tmp").write_bytes(b"unfinished")
    assert storage.list("commits") == storage.list("") == ["commits/1"]


def test_a_folder_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in ("pipe", "folder"):
        with pytest.raises(ShardError, match="not a regular file"):
            storage.get(path)
    assert storage.list("") == []


@given(st.text(st.sampled_from("./\\\0ab~")))
def test_a_path_that_passes_stays_below_its_root(path: str) -> None:
    try:
        check_path(path)
    except ShardError:
        return
    assert Path(os.path.normpath(f"/root/{path}")).is_relative_to("/root")
    assert os.path.normpath(f"/root/{path}") == f"/root/{path}"


def test_links_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    storage = open_storage(tmp_path / "root")
    storage.put("shards/1", b"one")
    (tmp_path / "root" / "away").symlink_to(outside)
    (tmp_path / "root" / "shards" / "2").symlink_to(outside / "secret")
    for path in ("away/secret", "shards/2"):
        with pytest.raises(ShardError, match="leads out"):
            storage.get(path)
    for write in (storage.put, storage.create):
        with pytest.raises(ShardError, match="leads out"):
            write("away/new", b"")
    with pytest.raises(ShardError, match="leads out"):
        storage.delete("away/secret")
    assert storage.list("") == ["shards/1"]
    storage.put("shards/2", b"two")  # replaces the link, not what it points to
    assert storage.get("shards/2") == b"two"
    assert (outside / "secret").read_bytes() == b"secret"
    assert sorted(p.name for p in outside.iterdir()) == ["secret"]


def test_a_root_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    storage = open_storage(tmp_path / "link")
    storage.put("a", b"a")
    assert (tmp_path / "real" / "a").read_bytes() == b"a"


def test_a_folder_that_may_not_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(GenerationError, match=r"file/a: cannot write: .*: make it writable"):
        open_storage(tmp_path / "file").put("a", b"")


@pytest.mark.parametrize("url", ["ftp://host/run", "file://host/run"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="pass the path of a folder"):
        open_storage(url)


def test_a_file_url_and_a_reopened_url_are_the_same_folder(tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}/with%20space")
    storage.put("a", b"a")
    assert (tmp_path / "with space" / "a").read_bytes() == b"a"
    assert open_storage(storage.url).get("a") == b"a"


def test_a_relative_root_does_not_follow_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = LocalStorage("run")
    monkeypatch.chdir("/")
    storage.put("a", b"a")
    assert (tmp_path / "run" / "a").read_bytes() == b"a"
