"""A real object store besides the one in this process."""

import secrets
from collections.abc import Iterator

import pytest

from tests.support.seaweed import BUCKET, SeaweedServer, set_environment


@pytest.fixture(scope="session")
def seaweed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Endpoint of a SeaweedFS with one bucket."""
    server = SeaweedServer(tmp_path_factory.mktemp("seaweed"))
    try:
        server.start()
        yield server.endpoint
    finally:
        server.end()


@pytest.fixture
def seaweed_url(seaweed_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an unused prefix in its bucket, with the environment set."""
    set_environment(monkeypatch, seaweed_server)
    return f"s3://{BUCKET}/{secrets.token_hex(4)}/prefix"
