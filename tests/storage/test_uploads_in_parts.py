"""A large file goes to an object store in parts, and only a part that fails is sent again."""

import re
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from postmean.base.errors import StorageError
from postmean.storage import object_store
from postmean.storage.open import open_storage
from tests.support.faulty_proxy import Fault, faulty_proxy

SIZE = 5 << 20  # S3 takes no smaller part but the last


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of three parts."""
    monkeypatch.setattr(object_store, "PART", SIZE)
    file = tmp_path / "large"
    file.write_bytes(np.random.default_rng(0).bytes(2 * SIZE + 1000))
    return file


def number_of(request: BaseHTTPRequestHandler) -> int | None:
    """Number of the part that a request sends."""
    found = re.search(r"partNumber=(\d+)", request.path)
    return int(found[1]) if found and request.command == "PUT" else None


def test_a_part_that_fails_is_sent_again_and_no_other(
    large: Path, s3_server: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: Counter[int] = Counter()

    def fail_second(request: BaseHTTPRequestHandler) -> Fault:
        number = number_of(request)
        if number is not None:
            sent[number] += 1
        return ("reset", "503")[sent[2] % 2] if number == 2 and sent[2] <= 4 else None

    with faulty_proxy(s3_server, fail_second) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        open_storage(s3_url).put_file("large", large)
    assert sent == {1: 1, 2: 5, 3: 1}
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert open_storage(s3_url).get("large") == large.read_bytes()


def test_a_part_that_is_refused_ends_the_upload_without_an_object(
    large: Path, s3_server: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_second(request: BaseHTTPRequestHandler) -> Fault:
        return (403, b"<Error><Code>AccessDenied</Code></Error>") if number_of(request) == 2 else None

    with faulty_proxy(s3_server, refuse_second) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StorageError, match="access denied"):
            open_storage(s3_url).put_file("large", large)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert not open_storage(s3_url).exists("large")
