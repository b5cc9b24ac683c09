"""What every storage must do: whole objects under one root, safe paths only, and clear errors for missing objects."""

import os
import threading
from pathlib import Path

import pytest

from postmean.base.errors import ShardError
from postmean.storage.open import open_storage
from postmean.storage.storage import Storage

ESCAPES = ["/etc/passwd", "../a", "a/../../b", "a/..", "..", ".", "a/./b", "a//b", "a/", "", "a\\b", "a\0b", "a/.b.tmp"]
LARGE = 40 << 20


@pytest.fixture(params=["local", "s3", pytest.param("seaweed", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place: a folder, a server in this process, or a real object store."""
    return (
        str(tmp_path / "not yet" / "there")
        if request.param == "local"
        else request.getfixturevalue(f"{request.param}_url")
    )


@pytest.fixture
def storage(url: str) -> Storage:
    return open_storage(url)


def test_what_is_put_is_there_and_is_replaced(storage: Storage) -> None:
    assert storage.list("") == []
    storage.put("a/b/c", b"one")
    storage.put("a/b/c", b"three")
    assert storage.get("a/b/c") == b"three"
    assert storage.exists("a/b/c")
    assert not storage.exists("a/b")
    storage.delete("a/b/c")
    storage.delete("a/b/c")
    assert not storage.exists("a/b/c")
    assert storage.list("") == []


def test_an_empty_object_is_an_object(storage: Storage) -> None:
    storage.put("a", b"")
    assert storage.exists("a")
    assert storage.get("a") == b""
    assert storage.get_range("a", 0, 0) == b""


def test_a_large_object_is_the_same_in_whole_and_in_parts(storage: Storage) -> None:
    data = os.urandom(1 << 20) * (LARGE >> 20) + b"end"
    storage.put("large", data)
    assert storage.get("large") == data
    assert storage.get_range("large", (16 << 20) - 5, 10) == data[(16 << 20) - 5 :][:10]
    assert storage.get_range("large", 3, LARGE) == data[3:]


def test_a_file_is_put_whole_whatever_its_size(storage: Storage, tmp_path: Path) -> None:
    for size in (0, 10, LARGE + 3):
        (tmp_path / "file").write_bytes(os.urandom(1 << 10) * (size >> 10) + b"e" * (size % (1 << 10)))
        sent: list[int] = []
        storage.put_file("file", tmp_path / "file", sent.append)
        assert storage.get("file") == (tmp_path / "file").read_bytes()
        assert storage.size("file") == sent[-1] == size
    with pytest.raises(ShardError, match="missing"):
        storage.size("none")


def test_a_range_is_read_exactly(storage: Storage) -> None:
    storage.put("a", b"0123456789")
    assert storage.get_range("a", 0, 10) == b"0123456789"
    assert storage.get_range("a", 3, 4) == b"3456"


def test_create_writes_only_where_nothing_is(storage: Storage) -> None:
    assert storage.create("a/b", b"first")
    assert not storage.create("a/b", b"second")
    assert not storage.create("a/b", b"first")
    assert storage.get("a/b") == b"first"
    assert storage.list("") == ["a/b"]


def test_of_competing_writers_one_creates(url: str) -> None:
    won: dict[int, list[int]] = {}

    def compete(name: int) -> None:
        mine = open_storage(url)
        won[name] = [n for n in range(20) if mine.create(f"leases/{n}", bytes([name]) * 1000)]

    threads = [threading.Thread(target=compete, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(n for numbers in won.values() for n in numbers) == list(range(20))
    for name, numbers in won.items():
        for n in numbers:
            assert open_storage(url).get(f"leases/{n}") == bytes([name]) * 1000


def test_list_is_sorted_recursive_and_by_folder(storage: Storage) -> None:
    for path in ("commits/1", "commits/0/x", "commits2/1", "z", "commit"):
        storage.put(path, b"")
    assert storage.list("commits") == ["commits/0/x", "commits/1"]
    assert storage.list("") == ["commit", "commits/0/x", "commits/1", "commits2/1", "z"]
    assert storage.list("absent") == []
    assert storage.list("z") == []
    for prefix in ("commits", "", "absent", "z"):
        assert sorted(storage.each(prefix)) == storage.list(prefix)


def test_what_is_missing_or_short_is_named(storage: Storage) -> None:
    for read in (storage.get, lambda path: storage.get_range(path, 0, 1)):
        with pytest.raises(ShardError, match=r"shards/000042\.tar: missing"):
            read("shards/000042.tar")
    storage.put("a", b"12345")
    for start, length, short in ((3, 5, 3), (5, 1, 1), (9, 2, 2)):
        with pytest.raises(ShardError, match=f"a: ends {short} bytes early"):
            storage.get_range("a", start, length)
    with pytest.raises(ShardError, match="missing"):
        storage.get("a/b")


@pytest.mark.parametrize("path", ESCAPES)
def test_paths_that_could_leave_the_root_are_refused(storage: Storage, path: str) -> None:
    for use in (
        lambda: storage.put(path, b""),
        lambda: storage.create(path, b""),
        lambda: storage.get(path),
        lambda: storage.get_range(path, 0, 1),
        lambda: storage.exists(path),
        lambda: storage.delete(path),
    ):
        with pytest.raises(ShardError, match="not a path"):
            use()
    assert storage.list("") == []


def test_the_url_opens_the_same_storage_again(storage: Storage) -> None:
    storage.put("a", b"a")
    assert open_storage(storage.url).get("a") == b"a"
    assert open_storage(storage.url).url == storage.url


def test_cleaning_leaves_what_was_written(storage: Storage) -> None:
    storage.put("a/b", b"b")
    assert storage.clean_temporary() == 0
    assert storage.get("a/b") == b"b"
