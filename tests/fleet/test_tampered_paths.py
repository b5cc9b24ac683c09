"""A tampered run names files that are not its own: no command reads or deletes them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from postmean.base.errors import PostmeanError, ShardError
from postmean.contract.image_store import ImageStore
from postmean.runs.verify import check_run
from postmean.shards.retention import delete_shards
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.training.stream.stream import TargetStream
from tests.fleet.conftest import config
from tests.support.runs import files_of, make_by_hand
from tests.support.settings import edit_manifest

COMMIT = "commits/000001.json"
SHARD = "shards/000001.tar"


@pytest.fixture(scope="module")
def whole(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a run of some four shards."""
    folder = tmp_path_factory.mktemp("whole")
    make_by_hand(replace(config(store.path, folder, "webdataset"), tuples=800))
    return files_of(folder)


@pytest.fixture(params=["local", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, whole: dict[str, bytes]) -> str:
    """The whole run, and a file beside it."""
    url = str(tmp_path / "run") if request.param == "local" else request.getfixturevalue("s3_url")
    for path, data in whole.items():
        open_storage(url).put(path, data)
    open_storage(url.rpartition("/")[0]).put("beside", b"beside")
    return url


def is_refused_by_all(url: str, store: ImageStore) -> None:
    """Reading the second shard, reading all in order and verifying all report the second shard as damaged."""
    run = RunFolder(open_storage(url))
    with pytest.raises(ShardError, match="000001"):
        run.read_shard(1)
    assert check_run(run, store, 0).damaged.keys() == {1}
    with pytest.raises(ShardError, match="000001"):
        list(TargetStream.open(url, store, 128))


@pytest.mark.parametrize("path", ["../beside", "/etc/passwd", "shards/../../beside", "shards/000000.tar"])
def test_a_commit_record_that_names_other_files_is_refused_and_they_stay(
    url: str, path: str, store: ImageStore
) -> None:
    storage = open_storage(url)
    record = json.loads(storage.get(COMMIT))
    for file in record["files"]:
        file["path"] = path
    storage.put(COMMIT, json.dumps(record).encode())
    is_refused_by_all(url, store)
    delete_shards(RunFolder(storage), 1, 2)
    assert not storage.exists(SHARD)  # deleted by the plan, not by the commit record
    assert storage.exists("shards/000000.tar")
    assert open_storage(url.rpartition("/")[0]).get("beside") == b"beside"


def test_a_manifest_with_another_format_is_refused(url: str) -> None:
    storage = open_storage(url)
    edit_manifest(storage, format="../../beside")
    with pytest.raises(PostmeanError, match="format"):
        RunFolder(storage).read_manifest()


@pytest.mark.parametrize("url", ["local"], indirect=True)
def test_a_link_out_of_the_run_is_refused_and_what_it_leads_to_stays(
    url: str, store: ImageStore, tmp_path: Path
) -> None:
    outside = (Path(url) / "shards").rename(tmp_path / "outside")
    before = {path.name: path.read_bytes() for path in outside.iterdir()}
    (Path(url) / "shards").symlink_to(outside)
    run = RunFolder(open_storage(url))
    with pytest.raises(ShardError, match="leads out"):
        run.read_shard(1)
    assert len(check_run(run, store, 0).damaged) == len(before)
    with pytest.raises(ShardError, match="leads out"):
        list(TargetStream.open(url, store, 128))
    with pytest.raises(ShardError, match="leads out"):
        delete_shards(run, 0, 2)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == before
