"""Objects in the S3 server of the tests, without a request for each, and the requests that others make."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from tests.support.faulty_proxy import Fault, faulty_proxy


def put_many(url: str, objects: Mapping[str, bytes]) -> None:
    """Put objects below an s3:// URL: a thousand in some 50 ms."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for path, data in objects.items():
        backend.put_object(bucket, f"{prefix}/{path}", data)


@contextmanager
def requests_of(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Method and path, with the query, of every request that goes to the S3 server meanwhile."""
    made: list[tuple[str, str]] = []

    def note(request: BaseHTTPRequestHandler) -> Fault:
        made.append((request.command, request.path))
        return None

    with faulty_proxy(server, note) as (endpoint, _), monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield made


def listings(made: list[tuple[str, str]], folder: str) -> int:
    """Number of requests that list this folder of a run."""
    return sum("list-type=2" in path and f"%2F{folder}%2F&" in f"{path}&" for _, path in made)
