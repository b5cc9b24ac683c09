"""From images to targets with a store that is only in an object store: the same bytes as with one in a folder."""

import os
import shutil
import signal
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import torch

from postmean.cli.main import run
from postmean.contract.image_store import ImageStore
from postmean.estimators.posterior_mean import PosteriorMean
from postmean.planning.workload import workload
from postmean.storage.open import open_storage
from postmean.training.stream.stream import TargetStream
from tests.support.faulty_proxy import faulty_proxy
from tests.support.image_files import class_files, make_source, random_images
from tests.support.runs import assert_one_line, files_of, make_by_hand, start, wait_until
from tests.support.settings import generate_config
from tests.support.stores import digits

SETTINGS = {"tuples": 600, "records_per_shard": 64, "estimator": "knn-stratified", "k": 16, "m": 16}


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Caches of two nodes; the first is in use."""
    monkeypatch.setenv("POSTMEAN_STORE_CACHE", str(tmp_path / "one"))
    return [tmp_path / "one", tmp_path / "other"]


def test_import_goes_on_where_its_upload_was_stopped(
    s3_server: str, s3_url: str, nodes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    source = make_source(tmp_path, "folder", class_files(random_images(6)))
    assert run("import", [str(source), str(tmp_path / "local")]) == 0
    local = ImageStore.open(tmp_path / "local")
    capsys.readouterr()

    def refuse_images(request: BaseHTTPRequestHandler) -> tuple[int, bytes] | None:
        is_put = request.command == "PUT" and "images.npy" in request.path
        return (403, b"<Error><Code>AccessDenied</Code></Error>") if is_put else None

    with faulty_proxy(s3_server, refuse_images) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        assert run("import", [str(source), s3_url]) == 3
    assert_one_line(capsys.readouterr().err, "access denied (403 AccessDenied): check the credentials")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert not open_storage(s3_url).exists("header.json")  # so nobody reads it

    shutil.rmtree(source)  # not needed again
    assert run("import", [str(source), s3_url]) == 0
    assert f"{s3_url}: 6 images of " in capsys.readouterr().out
    for path in local.path.iterdir():
        assert open_storage(s3_url).get(path.name) == path.read_bytes()
    assert [path.name for path in nodes[0].iterdir()] == [ImageStore.open(s3_url).path.name]
    assert (ImageStore.open(s3_url).path / "images.npy").is_file()  # this node need not fetch it

    assert run("import", [str(source), s3_url]) == 2
    assert_one_line(capsys.readouterr().err, f"{s3_url}: already there: remove it or import to another URL")
    assert run("import", [str(source), "https://host/a.store"]) == 2
    assert_one_line(capsys.readouterr().err, "https://: no store is made there")


@pytest.mark.slow
def test_an_import_that_is_killed_while_it_sends_images_leaves_no_store(
    seaweed_server: str, seaweed_url: str, nodes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 64, 64, 3), np.uint8)
    np.savez(tmp_path / "photos.npz", images=pixels)
    assert run("import", [str(tmp_path / "photos.npz"), str(tmp_path / "local")]) == 0
    parts: list[str] = []
    hold = threading.Event()

    def hold_second(request: BaseHTTPRequestHandler) -> None:
        if request.command == "PUT" and "partNumber=" in request.path:
            parts.append(request.path)
            if "partNumber=2" in request.path:
                hold.wait(120)

    with faulty_proxy(seaweed_server, hold_second) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        running = start("import", tmp_path / "photos.npz", seaweed_url)
        wait_until(lambda: running.poll() is not None or len(parts) >= 3, "images are being sent")
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        hold.set()
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed_server)
    assert len(parts) >= 3
    assert not {"header.json", "images.npy"} & set(open_storage(seaweed_url).list(""))
    capsys.readouterr()
    assert run("index", [seaweed_url]) == 2
    assert_one_line(capsys.readouterr().err, "no image store there (no header.json)")

    assert run("import", [str(tmp_path / "photos.npz"), seaweed_url]) == 0
    for path in (tmp_path / "local").iterdir():
        assert open_storage(seaweed_url).get(path.name) == path.read_bytes()
    monkeypatch.setenv("POSTMEAN_STORE_CACHE", str(nodes[1]))  # another node
    ImageStore.open(seaweed_url).check()


def test_targets_are_those_of_a_store_in_a_folder(
    s3_url: str, nodes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    source, folder, url = tmp_path / "digits.npz", tmp_path / "local", f"{s3_url}/digits.store"
    make_digits(source)
    for store in (str(folder), url):
        assert run("import", [str(source), store]) == 0
        assert run("index", [store]) == 0
    said = capsys.readouterr()
    assert f"{url}/index/" not in said.err and f"{url}/index/self-join.npz: self-join of 150 images" in said.out
    index = {path: open_storage(url).get(path) for path in open_storage(url).list("index")}
    assert index == {f"index/{path.name}": path.read_bytes() for path in (folder / "index").iterdir()}

    monkeypatch.setenv("POSTMEAN_STORE_CACHE", str(nodes[1]))  # another node, which has nothing
    make_by_hand(generate_config(folder, tmp_path / "expected", **SETTINGS))
    by_url = generate_config(folder, tmp_path / "found", **SETTINGS)
    by_url = type(by_url)(**vars(by_url) | {"store": url})
    make_by_hand(by_url)
    assert files_of(tmp_path / "found") == files_of(tmp_path / "expected")
    assert workload(by_url).records == workload(generate_config(folder, "x", **SETTINGS)).records
    assert run("verify", [str(tmp_path / "found"), "--store", url, "--records", "8"]) == 0
    assert run("inspect", [url]) == 0
    assert "self-join.npz" in capsys.readouterr().out

    with TargetStream.open(str(tmp_path / "found"), url, batch_size=200) as stream:
        means = [batch.mean for batch in stream]
    with TargetStream.open(str(tmp_path / "found"), folder, batch_size=200) as stream:
        assert all((batch.mean == mean).all() for batch, mean in zip(stream, means, strict=True))
    z = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert (PosteriorMean(url, device="cpu")(z, 3.0) == PosteriorMean(folder, device="cpu")(z, 3.0)).all()


def test_a_flag_moves_the_cache(
    s3_url: str, nodes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_digits(tmp_path / "digits.npz")
    assert run("import", [str(tmp_path / "digits.npz"), s3_url, f"--store-cache={nodes[1]}"]) == 0
    assert nodes[1].is_dir() and not nodes[0].exists()


def make_digits(path: Path) -> None:
    """A source of 150 labelled digits."""
    pixels, labels = digits()
    np.savez(path, images=pixels[:150], labels=labels[:150])
