"""The same images from a folder, a glob, a brace list, an archive in an archive, and URLs."""

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from postmean.base.errors import ConfigError, DataError
from postmean.contract.image_store import fingerprint
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images
from tests.support.hub import REPO, hub
from tests.support.image_files import class_files, make_source, planes, png, random_images

IMAGES = random_images(12, (8, 8, 3))
LABELS = [i // 4 for i in range(12)]
EXPECTED = fingerprint(planes(IMAGES), np.array(LABELS))


def read(tmp_path, source, **settings):
    return import_images(ImportConfig(source=source, store=tmp_path / "store", workers=1, **settings))


def shards(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(3):
        with webdataset.TarWriter(str(folder / f"train-{shard:03}.tar")) as sink:
            for i in range(4 * shard, 4 * shard + 4):
                sink.write({"__key__": f"{i:06}", "png": png(IMAGES[i]), "cls": LABELS[i]})
    return folder


def tables(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for part in range(3):
        rows = slice(4 * part, 4 * part + 4)
        cells = [{"bytes": png(image), "path": "x.png"} for image in IMAGES[rows]]
        pq.write_table(pa.table({"image": cells, "label": LABELS[rows]}), folder / f"train-0000{part}-of-00003.parquet")
    return folder


@pytest.mark.parametrize(
    "pattern", ["train-*.tar", "train-{000..002}.tar", "train-{000,001,002}.tar", "train-00[0-2].tar"]
)
def test_globs_and_brace_lists_stand_for_their_files(tmp_path, pattern):
    report = read(tmp_path, str(shards(tmp_path / "wds") / pattern))
    assert (report.kind, report.fingerprint) == ("webdataset", EXPECTED)


def test_a_pattern_may_choose_some(tmp_path):
    report = read(tmp_path, str(tables(tmp_path / "data") / "train-0000{0..1}-of-00003.parquet"))
    assert report.fingerprint == fingerprint(planes(IMAGES[:8]), np.array(LABELS[:8]))


def test_a_pattern_of_class_folders(tmp_path):
    files = {f"n{label:03}/{i:03}.png": png(IMAGES[i]) for i, label in enumerate(LABELS)}
    source = make_source(tmp_path, "folder", files | {"other/x.png": png(IMAGES[0])})
    assert read(tmp_path, f"{source}/n*").fingerprint == EXPECTED


def test_a_name_with_braces_is_that_file(tmp_path):
    shards(tmp_path / "{a,b}*")
    assert read(tmp_path, tmp_path / "{a,b}*").fingerprint == EXPECTED


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("no-*.tar", r"no-\*\.tar: no file matches: check the path, and quote it"),
        ("train-{000..005}.tar", r"train-003\.tar: no such file or folder"),
        ("train-{000..x}.tar", r"no such file or folder|correct its braces"),
        ("{train-000.tar", r"no such file or folder"),
    ],
)
def test_patterns_that_match_nothing_are_refused(tmp_path, pattern, message):
    with pytest.raises((DataError, ConfigError), match=message):
        read(tmp_path, str(shards(tmp_path / "wds") / pattern))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("depth", [1, 2])
def test_archives_in_archives_are_opened(tmp_path, depth):
    files = {f"c{label}/{i:03}.png": png(IMAGES[i]) for i, label in enumerate(LABELS)}
    path = make_source(tmp_path, "tar.gz", files)
    for level in range(depth):
        outer = tmp_path / f"outer{level}.zip"
        with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED if level else zipfile.ZIP_STORED) as archive:
            archive.write(path, path.name)
            archive.writestr("README.md", "x")
        path = outer
    report = read(tmp_path, path)
    assert report.fingerprint == EXPECTED


def test_archives_beside_a_data_set_are_not_opened(tmp_path):
    """torchvision leaves the downloaded archive beside what it unpacked."""
    source = make_source(tmp_path, "folder", class_files(IMAGES))
    make_source(tmp_path / "other", "tar.gz", class_files(IMAGES)).rename(source / "set.tar.gz")
    report = read(tmp_path, source)
    assert report.images == 12


def test_what_an_archive_in_an_archive_unpacks_to_is_bounded(tmp_path, monkeypatch):
    from postmean.importers import limits

    monkeypatch.setattr(limits, "most_unpacked", lambda packed: 2**20)
    inner = make_source(tmp_path, "tar.gz", {"a/0.png": png(IMAGES[0]), "a/1.png": bytes(2**20)})
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        for i in range(3):
            archive.write(inner, f"{i}.tar.gz")
    with pytest.raises(DataError, match=r"0\.tar\.gz in .*outer\.zip: .*no data set compresses so well"):
        read(tmp_path, tmp_path / "outer.zip")


@pytest.mark.parametrize("damage", [b"", b"not a tar", b"\x1f\x8b\x08\0 damaged"])
def test_a_damaged_archive_in_a_folder_is_named(tmp_path, damage):
    source = shards(tmp_path / "wds")
    (source / "train-001.tar").write_bytes(damage)
    with pytest.raises(DataError, match=r"train-001\.tar: (not an archive|truncated or damaged tar)"):
        read(tmp_path, source)


def test_many_shards_need_few_open_files(tmp_path, monkeypatch):
    from postmean.importers import limits

    monkeypatch.setattr(limits, "OPEN_ARCHIVES", 2)
    (tmp_path / "wds").mkdir()
    for i in range(12):
        with webdataset.TarWriter(str(tmp_path / "wds" / f"{i:03}.tar.gz"), compress=True) as sink:
            sink.write({"__key__": f"{i:06}", "png": png(IMAGES[i]), "cls": LABELS[i]})
    before = len(os.listdir("/proc/self/fd"))
    report = read(tmp_path, tmp_path / "wds")
    assert report.fingerprint == EXPECTED
    assert len(os.listdir("/proc/self/fd")) <= before


def test_shards_without_labels_are_no_classes(tmp_path):
    (tmp_path / "wds").mkdir()
    for shard in range(3):
        files = {f"{i:06}.png": png(IMAGES[i]) for i in range(4 * shard, 4 * shard + 4)}
        make_source(tmp_path, "tar", files).rename(tmp_path / "wds" / f"{shard:05}.tar")
    report = read(tmp_path, tmp_path / "wds")
    assert (report.kind, report.classes) == ("webdataset", 0)
    assert report.notes == ["no labels: no sample has a .cls, or a .json with one"]


@pytest.fixture
def web(tmp_path):
    """Address of a web server of the files in `served`, which lists folders."""
    (tmp_path / "served").mkdir()
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(quiet, directory=str(tmp_path / "served"))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "source", ["wds/train-{000..002}.tar", "wds/", "set.tar.gz", "data/train-0000{0,1,2}-of-00003.parquet"]
)
def test_web_addresses(tmp_path, web, source):
    shards(tmp_path / "served" / "wds")
    tables(tmp_path / "served" / "data")
    files = {f"c{label}/{i:03}.png": png(IMAGES[i]) for i, label in enumerate(LABELS)}
    make_source(tmp_path, "tar.gz", files).rename(tmp_path / "served" / "set.tar.gz")
    assert read(tmp_path, f"{web}/{source}").fingerprint == EXPECTED


def test_keys_in_an_address_are_in_no_store_and_no_error(tmp_path, web):
    files = {f"c{label}/{i:03}.png": png(IMAGES[i]) for i, label in enumerate(LABELS)}
    make_source(tmp_path, "tar", files).rename(tmp_path / "served" / "set.tar")
    secret = web.replace("http://", "http://user:hunter2@")
    report = read(tmp_path, f"{secret}/set.tar?signature=hunter2/x")
    assert report.fingerprint == EXPECTED
    assert "hunter2" not in (tmp_path / "store" / "header.json").read_text()
    with pytest.raises(DataError, match=r"no\.tar: no such file or folder: check the URL") as caught:
        import_images(ImportConfig(source=f"{secret}/no.tar?signature=hunter2", store=tmp_path / "other"))
    assert "hunter2" not in str(caught.value)


def put(url, path):
    from postmean.storage.object_store import ObjectStorage

    storage = ObjectStorage(url)
    for file in path.rglob("*"):
        if file.is_file():
            storage.put(str(file.relative_to(path)), file.read_bytes())


def test_objects_of_s3(tmp_path, s3_url):
    files = {f"set/c{label}/{i:03}.png": png(IMAGES[i]) for i, label in enumerate(LABELS)}
    make_source(tmp_path / "all", "folder", files)
    shards(tmp_path / "all" / "source" / "wds")
    tables(tmp_path / "all" / "source" / "data")
    put(s3_url, tmp_path / "all" / "source")
    sources = ["set", "wds", "wds/*.tar", "wds/train-{000..002}.tar", "data"]
    for i, source in enumerate(sources):
        report = import_images(ImportConfig(source=f"{s3_url}/{source}", store=tmp_path / f"{i}"))
        assert report.fingerprint == EXPECTED, source
    with pytest.raises(DataError, match=r"nothing.*: (no such file|empty)"):
        read(tmp_path, f"{s3_url}/nothing")


def test_a_url_of_an_unknown_kind(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere://: no file system of this kind"):
        read(tmp_path, "nowhere://x/y")


def test_files_of_any_fsspec_file_system(tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    for file in tables(tmp_path / "data").iterdir():
        memory.pipe_file(f"/hub/data/{file.name}", file.read_bytes())
    assert read(tmp_path, "memory://hub").fingerprint == EXPECTED
    memory.rm("/hub", recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["", "/data", "/data/train-*.parquet", "/data/train-0000{0,1,2}-of-00003.parquet"])
def test_data_sets_of_the_hub(tmp_path, source):
    files = {f"data/{path.name}": path.read_bytes() for path in tables(tmp_path / "data").iterdir()}
    with hub(files | {"README.md": b"x"}) as address:
        command = [sys.executable, "-m", "postmean", "import", f"hf://datasets/{REPO}{source}", "store", "--json"]
        environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fingerprint"] == EXPECTED
