"""From images to targets with a store that is only in an object store: the same bytes as with one in a folder."""

import shutil
from http.server import BaseHTTPRequestHandler
from pathlib import Path

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
from tests.support.runs import assert_one_line, files_of, make_by_hand
from tests.support.settings import generate_config

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


def test_targets_are_those_of_a_store_in_a_folder(
    s3_url: str, nodes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    source, folder, url = tmp_path / "digits.npz", tmp_path / "local", f"{s3_url}/digits.store"
    make_digits(source)
    for store in (str(folder), url):
        assert run("import", [str(source), store]) == 0
        assert run("index", [store]) == 0
    assert f"{url}/index/" not in capsys.readouterr().err
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
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images[:150] * (255 / 16)).astype(np.uint8)
    np.savez(path, images=images, labels=digits.target[:150])
