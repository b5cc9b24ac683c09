"""postmean beside a user's own packages `training` and `pipeline`, as in a checkout of NVlabs/edm."""

from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, Environment, run_in
from tests.support.runs import files_of, indexed_store, make_by_hand
from tests.support.settings import generate_config

pytestmark = pytest.mark.slow

USE = """
import pipeline.stages
import training.dataset
import training.networks
from postmean.runs.job import prepare
from postmean.training.stream.stream import TargetStream

assert (pipeline.stages.OWNER, training.dataset.OWNER) == ("user", "user")
stream = TargetStream.open("run", "digits.store", batch_size=40)
print(len([batch.mean for batch in stream]))
stream.close()
"""
DRIVE = """
import sys

import training.dataset
from postmean.cli.main import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
"""
TRAIN = ["--batch-size", "40", "--steps", "2", "--network.channels", "16", "--network.layers-per-block", "1"]


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_imports_generation_and_training_beside_own_packages_of_the_same_names(
    kind: str, wheel: Path, environment: Environment, tmp_path: Path
) -> None:
    python = environment(*([f"{wheel}[generate,train]"] if kind == "wheel" else ["-e", f"{ROOT}[generate,train]"]))
    for module in (
        "training/__init__",
        "training/dataset",
        "training/networks",
        "pipeline/__init__",
        "pipeline/stages",
    ):
        path = tmp_path / f"{module}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("OWNER = 'user'\n")
    (tmp_path / "use.py").write_text(USE)
    (tmp_path / "drive.py").write_text(DRIVE)
    store = indexed_store(tmp_path / "digits.store", 150)
    expected = tmp_path / "expected"
    make_by_hand(generate_config(store, expected, tuples=600, records_per_shard=64))

    # the path of Ray's workers begins with the folder of the driver's script; with -m that is this folder too
    job = ["generate", "edm-digits", "--store", "digits.store", "--tuples", 600, "--records-per-shard", 64]
    for program, out in ((["drive.py"], "run"), (["-m", "postmean"], "run-of-the-module")):
        done = run_in(tmp_path, python, *program, *job, "--actors", 1, "--out", out)
        assert done.returncode == 0, done.stderr
        assert files_of(tmp_path / out) == files_of(expected)
    done = run_in(tmp_path, python, "use.py")
    assert (done.returncode, done.stdout) == (0, "15\n"), done.stderr
    training = ["train", "edm-digits", "--targets", "run", "--store", "digits.store", "--out", "model", *TRAIN]
    done = run_in(tmp_path, python.with_name("postmean"), *training)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "model" / "checkpoints").iterdir())
