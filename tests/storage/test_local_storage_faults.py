"""LocalStorage under kills, competing processes and a full disk."""

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postmean.base.errors import GenerationError
from postmean.storage.open import open_storage

BYTES = 1 << 21


def start(script: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def files(root: Path) -> list[str]:
    """Paths of all files, hidden ones included."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def line_of(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_writer_killed_at_any_moment_leaves_old_or_new(tmp_path: Path) -> None:
    script = f"""
import sys
from postmean.storage.open import open_storage
storage = open_storage(sys.argv[1])
print("ready", flush=True)
while True:
    for letter in b"ab":
        storage.put("shards/0", bytes([letter]) * {BYTES})
"""
    storage = open_storage(tmp_path)
    storage.put("shards/0", b"a" * BYTES)
    for _ in range(6):
        writer = start(script, tmp_path)
        assert line_of(writer) == "ready"
        time.sleep(random.uniform(0, 0.05))
        writer.kill()
        writer.wait()
        assert storage.get("shards/0") in (b"a" * BYTES, b"b" * BYTES)
        assert storage.list("") == ["shards/0"]
    storage.clean_temporary()
    assert files(tmp_path) == ["shards/0"]


def test_leftovers_of_the_dead_are_removed_and_files_being_written_are_not(tmp_path: Path) -> None:
    script = """
import os, sys
from postmean.storage.open import open_storage
def wait(*_, rename=os.replace):
    print("written", flush=True)
    sys.stdin.readline()
    rename(*_)
os.replace = wait
open_storage(sys.argv[1]).put("shards/0", b"new")
"""
    storage = open_storage(tmp_path)
    storage.put("shards/0", b"old")
    dead, alive = start(script, tmp_path), start(script, tmp_path)
    assert line_of(dead) == line_of(alive) == "written"
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    assert len(files(tmp_path)) == 3
    assert storage.list("") == ["shards/0"]
    assert storage.clean_temporary() == 1
    assert storage.get("shards/0") == b"old"
    alive.communicate("go on\n", timeout=60)
    assert alive.returncode == 0
    assert storage.get("shards/0") == b"new"
    assert storage.clean_temporary() == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0", "shards"]


def test_cleaning_looks_at_no_file_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(tmp_path)
    storage.put("shards/0", b"old")
    leftover = tmp_path / ".unfinished" / ".0.0123456789abcdef.tmp"
    leftover.touch()
    looked: list[str] = []
    scandir = os.scandir

    def note(path: str) -> Any:
        looked.append(str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", note)
    assert storage.clean_temporary() == 1
    assert looked == [str(tmp_path / ".unfinished")]
    assert not leftover.exists()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EACCES, errno.EPERM])
def test_a_target_that_the_folder_of_temporary_files_does_not_serve_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """On another file system, or the folder is of another user."""
    replace, link = os.replace, os.link

    def refuse(move: Callable[..., None]) -> Callable[..., None]:
        def checked(source: Path, target: Path) -> None:
            if Path(source).parent != Path(target).parent:
                raise OSError(code, os.strerror(code))
            move(source, target)

        return checked

    monkeypatch.setattr(os, "replace", refuse(replace))
    monkeypatch.setattr(os, "link", refuse(link))
    storage = open_storage(tmp_path)
    storage.put("shards/0", b"new")
    assert storage.create("leases/1", b"first")
    assert not storage.create("leases/1", b"second")
    assert files(tmp_path) == ["leases/1", "shards/0"]
    assert storage.get("shards/0") == b"new"


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_files_are_written_and_leftovers_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As on Lustre without `-o flock`, or NFS without a lock daemon: nothing tells which writers are alive."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    storage = open_storage(tmp_path)
    storage.put("shards/0", b"old")
    leftover = tmp_path / ".unfinished" / ".0.0123456789abcdef.tmp"
    leftover.write_bytes(b"ne")
    assert storage.clean_temporary() == 0
    assert leftover.exists()
    storage.put("shards/0", b"new")
    assert storage.get("shards/0") == b"new"
    assert storage.list("") == ["shards/0"]


WITHOUT_LINKS = """
import errno, os
def refuse(*_, **__):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))
os.link = refuse
"""


@pytest.mark.parametrize("file_system", ["", WITHOUT_LINKS], ids=["links", "no links"])
def test_of_competing_processes_one_creates(tmp_path: Path, file_system: str) -> None:
    script = f"""
import sys
from postmean.storage.open import open_storage
{file_system}
storage = open_storage(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    if storage.create(f"leases/{{number}}", (sys.argv[2] * 1000).encode()):
        print(number)
"""
    names = "abc"
    processes = [start(script, tmp_path, name) for name in names]
    for process in processes:
        assert line_of(process) == "ready"
    won = {name: p.communicate("\n", timeout=60)[0].split() for name, p in zip(names, processes, strict=True)}
    assert sorted(int(n) for numbers in won.values() for n in numbers) == list(range(100))
    storage = open_storage(tmp_path)
    for name, numbers in won.items():
        for number in numbers:
            assert storage.get(f"leases/{number}") == (name * 1000).encode()
    assert len(storage.list("")) == 100


def test_a_full_disk_is_one_clear_line_and_keeps_what_was_there(small_disk: Path) -> None:
    storage = open_storage(small_disk)
    storage.put("shards/0", b"old")
    for write in (storage.put, storage.create):
        with pytest.raises(GenerationError, match=r"shards/\d: cannot write: No space left on device: free space"):
            write("shards/0" if write == storage.put else "shards/1", bytes(BYTES))
        assert files(small_disk) == ["shards/0"]
    assert storage.get("shards/0") == b"old"
    storage.put("shards/0", b"new")
    assert storage.get("shards/0") == b"new"


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_hard_links_one_creates_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As on gcsfuse and some SMB mounts."""
    refuse_links(monkeypatch, code)
    storage = open_storage(tmp_path)
    assert storage.create("leases/1", b"first")
    assert not storage.create("leases/1", b"second")
    assert storage.get("leases/1") == b"first"
    assert files(tmp_path) == ["leases/1"]


def test_without_hard_links_a_full_disk_leaves_nothing_that_seems_created(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch, errno.EPERM)
    storage = open_storage(small_disk)
    with pytest.raises(GenerationError, match=r"leases/1: cannot write: No space left on device: free space"):
        storage.create("leases/1", bytes(600_000))  # there is only room for the temporary file
    assert files(small_disk) == []
    assert storage.create("leases/1", b"first")


def test_a_link_that_fails_for_another_reason_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch, errno.EIO)
    with pytest.raises(GenerationError, match=r"leases/1: cannot write: Input/output error"):
        open_storage(tmp_path).create("leases/1", b"first")
    assert files(tmp_path) == []


def refuse_links(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)


def test_a_read_only_disk_is_one_clear_line(small_disk: Path) -> None:
    storage = open_storage(small_disk)
    storage.put("a", b"old")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for change in (lambda: storage.put("a", b"new"), lambda: storage.put("b/c", b"new"), lambda: storage.delete("a")):
        with pytest.raises(GenerationError, match="cannot write: Read-only file system: make it writable"):
            change()
    assert storage.get("a") == b"old"
