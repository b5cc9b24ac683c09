"""What a verification asks of an object store that holds a run of many shards."""

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler

import pytest

from postmean.contract.image_store import ImageStore
from postmean.runs.config import VerifyConfig
from postmean.runs.verify import VerifyReport, verify
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from tests.support.faulty_proxy import Fault, faulty_proxy
from tests.support.s3_objects import listings, put_many, requests_of

Expected = dict[str, dict[str, bytes]]


@pytest.fixture
def run(expected: Expected, s3_url: str) -> RunFolder:
    """A finished run in an object store."""
    put_many(s3_url, expected["webdataset"])
    return RunFolder(open_storage(s3_url))


def verified(run: RunFolder, store: ImageStore, shards: int | None) -> VerifyReport:
    return verify(VerifyConfig(out=run.url, store=store.path, records=4, shards=shards), progress=False)


def test_a_sample_of_shards_is_read_and_the_others_are_listed(
    run: RunFolder, store: ImageStore, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = len(run.read_plan())
    with requests_of(s3_server, monkeypatch) as made:
        report = verified(run, store, 2)
    read = Counter(path.rpartition("/")[2] for method, path in made if method == "GET" and path.endswith(".tar"))
    ends = {f"{shard:06d}" for shard in (0, whole - 1)}
    assert read == Counter(f"{end}.tar" for end in ends)
    assert {path.rpartition("/")[2] for _, path in made if "/commits/" in path and "list-type" not in path} == {
        f"{end}.json" for end in ends
    }
    assert listings(made, "commits") == 1
    assert (report.problems, report.committed, report.read, report.recomputed) == ([], whole, 2, 4)


def test_a_missing_shard_is_told_whatever_the_sample(run: RunFolder, store: ImageStore) -> None:
    run.storage.delete("commits/000001.json")
    (problem,) = verified(run, store, 1).problems
    assert problem.startswith(f"1 of {len(run.read_plan())} shards are missing")


def test_several_shards_are_read_at_a_time(
    run: RunFolder, store: ImageStore, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(3)

    def wait_for_others(request: BaseHTTPRequestHandler) -> Fault:
        if request.path.endswith(("/commits/000000.json", "/commits/000001.json", "/commits/000002.json")):
            together.wait(60)
        return None

    with faulty_proxy(s3_server, wait_for_others) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        report = verified(RunFolder(open_storage(run.url)), store, None)
    assert report.problems == [] and report.read == len(run.read_plan()) >= 3
