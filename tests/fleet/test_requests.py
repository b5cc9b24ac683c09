"""What a driver, a status, a verification and a trainer ask of an object store: each request is billed, and slow."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from postmean.contract.image_store import ImageStore
from postmean.runs.config import GenerateConfig, VerifyConfig
from postmean.runs.generate import generate
from postmean.runs.status import read_status
from postmean.runs.verify import verify
from postmean.storage.open import open_storage
from postmean.training.stream.stream import TargetStream
from tests.fleet.conftest import config
from tests.support.s3_objects import listings, put_many, requests_of

Expected = dict[str, dict[str, bytes]]


def reads(made: list[tuple[str, str]]) -> Counter[str]:
    """How often each commit record was read."""
    return Counter(path for method, path in made if method == "GET" and re.search(r"/commits/\d+\.json$", path))


@pytest.fixture
def job(expected: Expected, store: ImageStore, s3_url: str) -> GenerateConfig:
    """A job whose run lies in an object store, finished."""
    put_many(s3_url, expected["webdataset"])
    return replace(config(store.path, Path("nowhere"), "webdataset"), out=s3_url)


@pytest.mark.slow
def test_commits_are_listed_once_and_each_is_read_once_at_most(
    job: GenerateConfig, store: ImageStore, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with requests_of(s3_server, monkeypatch) as of_generate:
        shards = generate(job, progress=False).shards
    with requests_of(s3_server, monkeypatch) as of_status:
        assert read_status(open_storage(job.out)).state == "finished"
    with requests_of(s3_server, monkeypatch) as of_verify:
        assert verify(VerifyConfig(out=job.out, store=store.path, records=4), progress=False).problems == []
    with requests_of(s3_server, monkeypatch) as of_training:
        TargetStream.open(job.out, store, 100)
    for made in (of_generate, of_status, of_verify, of_training):
        assert listings(made, "commits") == 1, made
        assert listings(made, "") == listings(made, "shards") == 0, made
    for made in (of_generate, of_verify):
        assert (len(reads(made)), set(reads(made).values())) == (shards, {1})
    assert len(reads(of_status)) <= 64 and len(of_status) < 64 + 20
    assert not reads(of_training) and len(of_training) < 15


def test_a_run_whose_plan_was_lost_is_begun_again_with_one_listing(
    job: GenerateConfig, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_storage(job.out).delete("plan.parquet")
    with requests_of(s3_server, monkeypatch) as made:
        assert generate(job, progress=False).written == 0
    assert listings(made, "commits") == 1
    assert set(reads(made).values()) == {1}
