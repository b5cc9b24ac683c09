import gc
import logging
import os
import secrets
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # on sizes this small, more threads only wait for each other; children inherit it
# processes that tests start read the bytecode of the first instead of compiling all modules again
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.setdefault("RAY_AUTH_MODE", "token")  # before any test imports ray, which reads these at import
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
with suppress(ImportError):  # `make gpu` needs no hypothesis
    from hypothesis import HealthCheck, settings

    # a timing decides no test: a busy machine may take long over an example, or over making it
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")


def pytest_configure() -> None:
    """Tests' folders lie in memory where it has room: what is tested syncs every file, for which disks take long."""
    memory = "/dev/shm"
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 2**30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", memory)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """No search for garbage while tests are collected, and none later in what that made, which lives to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets, which are not in the repository: POSTMEAN_TEST_DATA, or ../shared/data."""
    folder = Path(os.environ.get("POSTMEAN_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data sets at {folder}: set POSTMEAN_TEST_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Endpoint of an S3 server in this process, on this machine only."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3_url(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """URL in a new bucket of the S3 server, with the environment set so that this process and its children reach it."""
    bucket = f"bucket-{secrets.token_hex(4)}"
    request = urllib.request.Request(f"{s3_server}/{bucket}", method="PUT")
    urllib.request.urlopen(request, timeout=60).close()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATHEKEYOFTHETESTS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the/secret+of/the/tests")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no credentials"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return f"s3://{bucket}/some/prefix"


@pytest.fixture(scope="session")
def seaweed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Endpoint of a SeaweedFS with one bucket."""
    from tests.support.seaweed import SeaweedServer

    server = SeaweedServer(tmp_path_factory.mktemp("seaweed"))
    try:
        server.start()
        yield server.endpoint
    finally:
        server.end()


@pytest.fixture
def seaweed_url(seaweed_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an unused prefix in its bucket, with the environment set."""
    from tests.support.seaweed import BUCKET, set_environment

    set_environment(monkeypatch, seaweed_server)
    return f"s3://{BUCKET}/{secrets.token_hex(4)}/prefix"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.getuid() != 0 or mount is None:
        pytest.skip("only root can mount a small tmpfs")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
