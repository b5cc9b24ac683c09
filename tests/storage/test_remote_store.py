"""An image store at a URL: what a node keeps of it is what was imported, fetched once, and evicted only when unused."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from postmean.base.errors import DataError
from postmean.cli.main import run
from postmean.contract.image_blocks import images_per_block
from postmean.contract.image_store import ImageStore
from postmean.storage.node_cache import CachedFolder
from postmean.storage.open import open_storage
from tests.support.faulty_proxy import faulty_proxy
from tests.support.runs import assert_one_line, wait_until
from tests.support.stores import digits_store


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSTMEAN_STORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def local(tmp_path: Path) -> ImageStore:
    """A store of eleven blocks."""
    pixels = np.random.Generator(np.random.Philox(1)).integers(0, 256, (3500, 3, 32, 32), np.uint8)
    return ImageStore.write(tmp_path / "local", ((image, number % 7) for number, image in enumerate(pixels)))


def upload(store: ImageStore, url: str) -> None:
    storage = open_storage(url)
    for path in sorted(store.path.rglob("*"), key=lambda path: path.name == "header.json"):
        if path.is_file():
            storage.put_file(str(path.relative_to(store.path)), path)


def same(one: ImageStore, other: ImageStore) -> bool:
    assert one.labels is not None and other.labels is not None
    return (one.images == other.images).all() and (one.labels == other.labels).all() and one.header == other.header


def copies(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if path.is_dir())


def test_a_store_at_a_url_is_the_store_that_was_imported(local: ImageStore, s3_url: str, cache: Path) -> None:
    upload(local, s3_url)
    store = ImageStore.open(s3_url)
    assert store.url == store.where == s3_url
    assert not (store.path / "images.npy").exists()  # until somebody looks at them
    assert same(store, local)
    assert [store.path] == copies(cache)
    assert (np.load(store.path / "images.npy", mmap_mode="r") == local.images).all()


def test_it_is_fetched_once(local: ImageStore, s3_url: str, cache: Path) -> None:
    upload(local, s3_url)
    ImageStore.open(s3_url).fetch()
    open_storage(s3_url).delete("images.npy")  # what is not there cannot be read again
    assert same(ImageStore.open(s3_url), local)


def test_processes_that_come_together_fetch_it_once(
    local: ImageStore, s3_url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, s3_url)
    with watched(monkeypatch) as asked:
        processes = [start_reading(s3_url) for _ in range(3)]
        sums = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert sums == [local.images.sum()] * 3
    assert len(ranges(asked)) == 11
    assert [name for name, _ in asked].count("labels.npy") == 1


def test_a_killed_fetch_is_resumed(
    local: ImageStore, s3_url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, s3_url)
    go_on, stuck = threading.Event(), threading.Event()

    def stop_after_some(asked: list[tuple[str, str]]) -> None:
        if len(ranges(asked)) > 4:
            stuck.set()
            go_on.wait(60)

    with watched(monkeypatch, stop_after_some) as asked:
        process = start_reading(s3_url)
        assert stuck.wait(60)
        (copy,) = copies(cache)
        wait_until(lambda: blocks_there(copy, local) >= 3, "the first blocks are on the disk")
        process.kill()
        process.communicate()
        go_on.set()
    kept = blocks_there(copy, local)
    with watched(monkeypatch) as asked:
        monkeypatch.setattr("postmean.storage.fetch.PART", 1 << 20)
        assert same(ImageStore.open(s3_url), local)
    assert len(ranges(asked)) == 11 - kept


def test_a_frozen_process_does_not_keep_the_others(
    local: ImageStore, s3_url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, s3_url)
    monkeypatch.setenv("POSTMEAN_STORAGE_DEADLINE", "0.4")
    store = ImageStore.open(s3_url)
    with CachedFolder(store.path.name).fetching():  # by another, which never comes to an end
        assert same(store, local)


def test_another_store_at_the_same_url_is_another_copy(local: ImageStore, s3_url: str, cache: Path) -> None:
    upload(local, s3_url)
    before = ImageStore.open(s3_url)
    other = digits_store(cache.parent / "other", 40)
    upload(other, s3_url)
    with pytest.raises(DataError, match="the store was replaced or is damaged"):
        before.fetch()
    assert same(ImageStore.open(s3_url), other)
    upload(local, s3_url)
    assert same(ImageStore.open(s3_url), local)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "block_hashes.npy", "header.json"])
def test_damage_in_the_object_store_is_found(local: ImageStore, s3_url: str, cache: Path, name: str) -> None:
    upload(local, s3_url)
    data = bytearray(open_storage(s3_url).get(name))
    data[len(data) // 2] ^= 1
    open_storage(s3_url).put(name, bytes(data))
    with pytest.raises(DataError) as caught:
        _ = ImageStore.open(s3_url).images
    assert s3_url in str(caught.value) and "\n" not in str(caught.value)
    upload(local, s3_url)
    assert same(ImageStore.open(s3_url), local)  # nothing wrong was kept


def test_damage_of_the_copy_is_found(local: ImageStore, s3_url: str, cache: Path) -> None:
    upload(local, s3_url)
    store = ImageStore.open(s3_url)
    store.fetch()
    with (store.path / "images.npy").open("r+b") as file:
        file.seek(5_000_000)
        file.write(b"damage")
    with pytest.raises(DataError, match=f"remove {store.path}, the copy of {s3_url} on this node"):
        _ = ImageStore.open(s3_url).images


def test_unused_copies_make_room_the_oldest_first(
    local: ImageStore, s3_url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        upload(local, f"{s3_url}/{name}")
    monkeypatch.setenv("POSTMEAN_STORE_CACHE_BYTES", "24e6")  # two of 10.7 MB
    oldest = ImageStore.open(f"{s3_url}/a")
    oldest.fetch()
    ImageStore.open(f"{s3_url}/b").fetch()
    assert len(copies(cache)) == 2
    newest = ImageStore.open(f"{s3_url}/c")
    newest.fetch()  # a is older, but in use
    assert {path.name[0] for path in copies(cache)} == {"a", "c"}
    with pytest.raises(
        DataError, match=r"10\.8 MB more are needed, 21\.6 MB are in use, and POSTMEAN_STORE_CACHE_BYTES"
    ):
        ImageStore.open(f"{s3_url}/b").fetch()
    os.utime(cache / oldest.path.name / ".use", (0, 0))
    del oldest, newest
    ImageStore.open(f"{s3_url}/b").fetch()
    assert {path.name[0] for path in copies(cache)} == {"b", "c"}


def test_a_full_disk_is_one_line(
    local: ImageStore, s3_url: str, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, s3_url)
    monkeypatch.setenv("POSTMEAN_STORE_CACHE", str(small_disk / "cache"))
    with pytest.raises(DataError, match=r"10\.8 MB are needed, .* free: free space, or set POSTMEAN_STORE_CACHE"):
        ImageStore.open(s3_url).fetch()
    monkeypatch.setattr("postmean.storage.node_cache._RESERVE", -(1 << 40))  # full meanwhile
    with pytest.raises(DataError, match="cannot write: No space left on device: make it writable, free space, or set"):
        ImageStore.open(s3_url).fetch()


def test_refusals_are_one_line_with_a_remedy(
    s3_url: str, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(url: str) -> str:
        assert run("index", [url]) in (2, 3)
        error = capsys.readouterr().err
        assert_one_line(error, "")
        return error

    assert "no image store there (no header.json): make one with `postmean import SOURCE" in said(s3_url)
    assert "no such bucket: make it" in said("s3://no-such-bucket-here/a.store")
    assert "no storage of this kind" in said("ftp://host/a.store")
    body = b"<Error><Code>InvalidAccessKeyId</Code></Error>"
    with faulty_proxy("http://nowhere", lambda _: (403, body)) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        assert "credentials refused (403 InvalidAccessKeyId): renew them" in said(s3_url)
    monkeypatch.setenv("POSTMEAN_STORE_CACHE_BYTES", "much")


def test_a_web_server_of_files_is_enough_to_read(local: ImageStore, cache: Path) -> None:
    with file_server(local.path) as url:
        store = ImageStore.open(url)
        assert same(store, local)
        assert run("inspect", [url]) == 0
        assert run("index", [url]) == 2


def start_reading(url: str) -> subprocess.Popen:
    """A process that reads all images and prints their sum; it fetches a block at a time."""
    look = f"""
from postmean.contract.image_store import ImageStore
from postmean.storage import fetch

fetch.PART = 1 << 20
print(ImageStore.open({url!r}).images.sum())
"""
    return subprocess.Popen([sys.executable, "-c", look], stdout=subprocess.PIPE)


@contextmanager
def watched(
    monkeypatch: pytest.MonkeyPatch, react: Callable[[list[tuple[str, str]]], None] = lambda asked: None
) -> Iterator[list[tuple[str, str]]]:
    """Files that are asked for meanwhile, and which part of each."""
    asked: list[tuple[str, str]] = []
    server = os.environ["AWS_ENDPOINT_URL"]

    def choose(request: BaseHTTPRequestHandler) -> None:
        asked.append((request.path.rpartition("/")[2], request.headers.get("Range", "")))
        react(asked)

    with faulty_proxy(server, choose) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield asked
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)


def ranges(asked: list[tuple[str, str]]) -> list[str]:
    """Parts of the images that were asked for; the first byte alone is for the size."""
    return [part for name, part in asked if name == "images.npy" and part != "bytes=0-0"]


def blocks_there(copy: Path, store: ImageStore) -> int:
    """Blocks of an unfinished copy that are right."""
    part, size = copy / "images.npy.part", images_per_block(store.dim) * store.dim
    if not part.exists():
        return 0
    pixels = store.images.tobytes()
    data = part.read_bytes()[128:]
    return sum(data[at : at + size] == pixels[at : at + size] for at in range(0, len(pixels), size))


@contextmanager
def file_server(folder: Path) -> Iterator[str]:
    """URL of a web server that knows ranges, as all but Python's own do."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            assert "Authorization" not in self.headers
            path = folder / self.path.removeprefix("/data/")
            data = path.read_bytes() if path.is_file() else b""
            status, part = (200 if path.is_file() else 404), data
            if self.headers.get("Range") and data:
                first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
                status, part = 206, data[int(first) : int(last) + 1]
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/data"
    finally:
        server.shutdown()
        server.server_close()
