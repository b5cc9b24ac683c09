"""Files and folders appear whole or not at all, under kills and competing writers; leftovers are removed."""

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from postmean.base.files import move_into_place, remove_leftovers, temporary_file, temporary_folder, write_file

BYTES = 1 << 21

PAUSE = """
import os, sys
from pathlib import Path
from postmean.base.files import move_into_place, temporary_folder, write_file
def wait(*_, rename=os.replace):
    print("written", flush=True)
    sys.stdin.readline()
    rename(*_)
os.replace = wait
path, text = Path(sys.argv[1]), sys.argv[2]
"""
FILE = PAUSE + "write_file(path, text.encode())"
FOLDER = (
    PAUSE
    + """
with temporary_folder(path) as temporary:
    (temporary / "inner").mkdir()
    (temporary / "inner" / "text").write_text(text)
    move_into_place(temporary, path)
"""
)


def start(script: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for_line(process: subprocess.Popen, line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


def go_on(process: subprocess.Popen) -> None:
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_the_folders_above_it_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_file(path, b"one")
    write_file(path, b"three")
    assert path.read_bytes() == b"three"
    assert names(path.parent) == ["file"]


def test_what_raises_before_it_is_moved_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "name"
    for temporary_thing in (temporary_file, temporary_folder):
        with pytest.raises(KeyError), temporary_thing(path) as temporary:
            assert temporary.exists()
            raise KeyError
        with temporary_thing(path):
            pass
        assert names(tmp_path) == []


def test_a_folder_does_not_replace_another(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for text in ("first", "second"):
        try:
            with temporary_folder(path) as temporary:
                (temporary / "text").write_text(text)
                move_into_place(temporary, path)
        except OSError as error:
            assert error.errno == errno.ENOTEMPTY and text == "second"
    assert (path / "text").read_text() == "first"
    assert names(tmp_path) == ["folder"]


def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from postmean.base.files import write_file
print("ready", flush=True)
while True:
    for letter in b"ab":
        write_file(Path(sys.argv[1]), bytes([letter]) * {BYTES})
"""
    path = tmp_path / "file"
    write_file(path, b"a" * BYTES)
    for _ in range(6):
        writer = start(script, path)
        wait_for_line(writer, "ready")
        time.sleep(random.uniform(0, 0.05))
        kill(writer)
        assert path.read_bytes() in (b"a" * BYTES, b"b" * BYTES)
    write_file(path, b"new")
    assert names(tmp_path) == ["file"], "the next write removes what the killed ones left"


def test_a_killed_write_leaves_the_old_file_and_the_next_one_removes_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    writer = start(FILE, path, "killed")
    wait_for_line(writer, "written")
    kill(writer)
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2
    write_file(path, b"new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_a_killed_folder_is_not_there_and_the_next_one_removes_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    writer = start(FOLDER, path, "killed")
    wait_for_line(writer, "written")
    kill(writer)
    assert not path.exists() and names(tmp_path)
    writer = start(FOLDER, path, "new")
    wait_for_line(writer, "written")
    go_on(writer)
    assert (path / "inner" / "text").read_text() == "new"
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("script", [FILE, FOLDER], ids=["file", "folder"])
def test_writers_of_one_name_share_no_temporary_and_do_not_remove_that_of_the_other(
    tmp_path: Path, script: str
) -> None:
    path = tmp_path / "name"
    first, second = start(script, path, "first"), start(script, path, "second")
    wait_for_line(first, "written")
    wait_for_line(second, "written")
    assert remove_leftovers(tmp_path) == 0
    temporaries = [file.read_text() for file in tmp_path.rglob("*") if file.is_file() and file.read_text()]
    assert sorted(temporaries) == ["first", "second"], "each wrote its own"
    go_on(first)
    assert remove_leftovers(tmp_path) == 0
    if script == FILE:
        go_on(second)
        assert path.read_text() == "second"
    else:  # a folder is never replaced
        kill(second)
        assert remove_leftovers(tmp_path) == 1
        assert (path / "inner" / "text").read_text() == "first"
    assert names(tmp_path) == ["name"]


def test_only_leftovers_of_the_name_asked_for_are_removed_and_nothing_else(tmp_path: Path) -> None:
    leftover = ".{}.0123456789abcdef.tmp"
    (tmp_path / leftover.format("a")).write_bytes(b"left")
    (tmp_path / leftover.format("a.b")).write_bytes(b"left")
    (tmp_path / (leftover.format("a.b") + ".d")).mkdir()
    (tmp_path / (leftover.format("a.b") + ".d") / "inner").write_bytes(b"left")
    (tmp_path / "link").symlink_to("file")
    os.replace(tmp_path / "link", tmp_path / leftover.format("link"))
    others = [".a.tmp", ".hidden", "a.0123456789abcdef.tmp", ".a.0123456789ABCDEF.tmp", "file"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    assert remove_leftovers(tmp_path, "a") == 1
    assert remove_leftovers(tmp_path, "a") == 0
    assert remove_leftovers(tmp_path) == 1
    assert names(tmp_path) == sorted([*others, leftover.format("link")])
    assert remove_leftovers(tmp_path / "absent") == 0


def test_without_locks_files_are_written_and_leftovers_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without locks nothing tells which writers are alive."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    leftover = tmp_path / ".file.0123456789abcdef.tmp"
    leftover.write_bytes(b"ne")
    write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert leftover.exists()
