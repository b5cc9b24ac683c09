"""Two processes under torchrun draw and score the images of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from postmean.training.images import ImageFolder
from tests.support.exact_runs import make_run
from tests.support.small_training import BATCH, CONFIG, train
from tests.support.stores import digits_store
from tests.training.test_scores_inception import weights  # noqa: F401  a fixture

pytestmark = pytest.mark.slow

COUNT = 7  # does not divide among two


def run(ranks: int, folder: Path, *command: str) -> str:
    """What a command prints under torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m", "postmean"]
    done = subprocess.run(
        [sys.executable, *launcher, *command, "--device=cpu", f"--count={COUNT}", "--steps=3", "--quiet"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
        | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_ranks_sample_and_score_as_one(tmp_path: Path, weights: Path) -> None:  # noqa: F811
    store = digits_store(tmp_path / "store", 40)
    make_run(tmp_path / "run", store, 6 * BATCH, max_support=40)
    train(CONFIG, tmp_path / "run", store.path, tmp_path / "model")
    images, scores = [], []
    for ranks in (1, 2):
        run(ranks, tmp_path, "sample", "model", f"--out=drawn-{ranks}", "--batch-size=2")
        drawn = ImageFolder(tmp_path / f"drawn-{ranks}")
        images.append(np.stack([drawn[n] for n in range(len(drawn))]).astype(int))
        flags = ["--checkpoint=model", "--store=store", f"--feature-extractor-weights={weights}", "--json"]
        scores.append(json.loads(run(ranks, tmp_path, "evaluate", *flags)))
    assert images[0].shape == images[1].shape == (COUNT, 1, 8, 8)
    assert np.abs(images[0] - images[1]).max() <= 1  # roundings of batches of another size
    assert scores[0]["images"] == scores[1]["images"] == COUNT
    assert scores[0]["fid"] == pytest.approx(scores[1]["fid"], rel=1e-2)
