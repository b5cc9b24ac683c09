"""The core without any extra streams targets; a command whose extra is missing says so in one line."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from postmean.contract.image_store import ImageStore
from postmean.training.stream.stream import TargetStream
from tests.packaging.conftest import Environment, run_in
from tests.support.runs import indexed_store, make_by_hand
from tests.support.settings import generate_config

pytestmark = pytest.mark.slow

STREAM = """
import hashlib, importlib.util, sys
from postmean.training.stream.stream import TargetStream

stream = TargetStream.open(sys.argv[1], sys.argv[2], batch_size=40)
digest = hashlib.sha256()
for batch in stream:
    digest.update(batch.mean.numpy().tobytes())
stream.close()
extras = "ray faiss matplotlib sklearn diffusers safetensors torch_fidelity zarr PIL webdataset".split()
print([name for name in extras if importlib.util.find_spec(name)], digest.hexdigest())
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return indexed_store(tmp_path_factory.mktemp("core") / "store", 150)


@pytest.fixture(scope="module")
def runs(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the same run in both formats."""
    folder = tmp_path_factory.mktemp("core")
    settings = {"tuples": 600, "records_per_shard": 64, "estimator": "exact"}
    tars = generate_config(store, folder / "webdataset", **settings)
    arrays = generate_config(store, folder / "zarr", format="zarr", **settings)
    make_by_hand(tars, arrays)
    return folder


@pytest.fixture(scope="module")
def core(wheel: Path, environment: Environment) -> Path:
    """Python of an environment with the wheel and no extras."""
    return environment(str(wheel))


def test_the_core_streams_the_targets_that_the_whole_does(
    core: Path, runs: Path, store: ImageStore, tmp_path: Path
) -> None:
    stream = TargetStream.open(runs / "webdataset", store, batch_size=40)
    means = np.concatenate([batch.mean.numpy() for batch in stream])
    stream.close()
    done = run_in(tmp_path, core, "-c", STREAM, runs / "webdataset", store.path)
    assert done.stdout == f"[] {hashlib.sha256(means.tobytes()).hexdigest()}\n", done.stderr


def test_commands_of_the_core_work(core: Path, runs: Path, store: ImageStore, tmp_path: Path) -> None:
    plan = ["plan", "edm-digits", "--store", store.path, "--tuples", "200"]
    verify = ["verify", runs / "webdataset", "--store", store.path]
    look = ["inspect", runs / "webdataset", "--record", "3", "--store", store.path]
    others = (["status", runs / "webdataset"], look, ["config", "edm"], ["doctor"])
    for arguments in (["--version"], ["index", store.path], plan, verify, *others):
        done = run_in(tmp_path, core, "-m", "postmean", *arguments)
        assert done.returncode == 0, done.stderr
        assert run_in(tmp_path, core.with_name("postmean"), *arguments[:1], "--help").returncode == 0


def test_a_command_whose_extra_is_missing_says_which(core: Path, runs: Path, store: ImageStore, tmp_path: Path) -> None:
    made = ["--store", store.path, "--out", tmp_path / "out"]
    for extra, package, command, arguments in (
        ("generate", "pillow", "import", [tmp_path, tmp_path / "new.store"]),
        ("generate", "ray", "generate", ["edm-digits", "--tuples", "200", *made]),
        ("generate", "ray", "serve", ["edm-digits", "--tuples", "200", "--store", store.path]),
        ("faiss", "faiss", "index", [store.path, "--index", "flat"]),
        ("zarr", "zarr", "verify", [runs / "zarr", "--store", store.path]),
        ("train", "pillow", "train", ["edm-digits", "--targets", runs / "webdataset", *made]),
        ("train", "pillow", "sample", [tmp_path, "--out", tmp_path / "out"]),
        ("evaluate", "torch-fidelity", "evaluate", [tmp_path, "--store", store.path]),
        ("report", "matplotlib", "report", ["estimators", store.path, "--out", tmp_path / "out"]),
        ("demo", "scikit-learn", "demo", ["--out", tmp_path / "out"]),
    ):
        done = run_in(tmp_path, core, "-m", "postmean", command, *arguments)
        expected = f"postmean {command}: needs {package}: pip install 'postmean[{extra}]'\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
    assert not list(tmp_path.iterdir())
