"""The commands of docs/imagenet64.md, on batches like those of the download: all classes and files, few images."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from postmean.cli.generate import COMMAND as GENERATE
from postmean.cli.main import run
from postmean.contract.image_store import ImageStore
from postmean.estimators.float64 import exact_mean
from postmean.training.stream.stream import TargetStream
from tests.docs.shell_blocks import ROOT, shell_lines
from tests.support.runs import make_by_hand, postmean

CLASSES, BATCHES, TUPLES = 1000, 10, 2048
SMALL = {
    "plan": ["--tuples=4096", "--records-per-shard=64"],
    "generate": [f"--tuples={TUPLES}", "--records-per-shard=64", "--device=cpu", "--actors=1"],
    "verify": ["--records=24"],
    "train": [
        *("--steps=2", "--batch-size=16", "--device=cpu", "--precision=fp32"),
        *("--network.channels=32", "--network.channel-mult", "1", "1", "--network.layers-per-block=1"),
    ],
}
"""Flags that make a step small."""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Arguments of the page's commands by name, in a folder with the download."""
    monkeypatch.chdir(tmp_path)
    download(tmp_path / "imagenet64")
    lines = [line.words for line in shell_lines(ROOT / "docs" / "imagenet64.md") if not line.marked]
    assert [words[0] for words in lines] == ["postmean"] * len(lines)
    first: dict[str, list[str]] = {}
    for words in lines:  # later ones of the same name plan other presets
        first.setdefault(words[1], [*words[2:], *SMALL.get(words[1], [])])
    return first


def download(folder: Path) -> None:
    """Two images a class, alike enough that some posteriors are open, in an order that mixes the classes."""
    rng = np.random.default_rng(0)
    first = rng.integers(30, 226, (CLASSES, 3 * 64 * 64), dtype=np.uint8)
    second = first + rng.integers(-25, 26, first.shape, dtype=np.int8).view(np.uint8)
    labels = np.tile(np.arange(1, CLASSES + 1), 2)
    order = rng.permutation(len(labels))
    folder.mkdir()
    for number, rows in enumerate(np.split(order, BATCHES), start=1):
        data = np.concatenate([first, second])[rows]
        np.savez(folder / f"train_data_batch_{number}.npz", data=data, labels=labels[rows])


def test_import_index_and_verify_of_the_page_give_a_stream_of_exact_means(
    commands: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a fleet: a replica in this process makes the shards that `generate` would make."""
    assert list(commands) == ["import", "index", "plan", "generate", "status", "verify", "train"]
    for name in ("import", "index"):
        assert run(name, commands[name]) == 0
    store = ImageStore.open("in64.store")
    assert store.header.shape == (2 * CLASSES, 3, 64, 64)
    assert np.bincount(store.labels).tolist() == [2] * CLASSES
    make_by_hand(GENERATE.parse(commands["generate"])[0])
    for name in ("status", "verify"):
        assert run(name, commands[name]) == 0, capsys.readouterr()
    targets = commands["train"][commands["train"].index("--targets") + 1]
    with TargetStream.open(targets, store, batch_size=256) as stream:
        batches = list(stream)
    assert len(batches) == TUPLES // 256
    for batch in batches[:2]:
        for row in np.flatnonzero(~batch.certified.numpy())[:4]:
            entries = np.flatnonzero(store.labels == int(batch.label[row]))
            z = batch.z[row].numpy().reshape(1, -1)
            exact = exact_mean(store, entries, z, batch.sigma[row : row + 1].numpy()).reshape(3, 64, 64)
            assert np.square(batch.mean[row].numpy() - exact).mean() < 1e-6
    assert any((~batch.certified).any() for batch in batches) and any(batch.certified.any() for batch in batches)


@pytest.mark.slow
def test_every_command_of_the_page_runs(commands: dict[str, list[str]], tmp_path: Path) -> None:
    for name, arguments in commands.items():
        done = postmean(name, *arguments, "--json")
        assert done.returncode == 0, (name, done.stderr)
        if name == "plan":
            assert json.loads(done.stdout)["images"] == 2 * CLASSES
        if name == "verify":
            assert json.loads(done.stdout)["problems"] == []
    assert (tmp_path / "in64.model" / "metrics.jsonl").is_file(), shlex.join(commands["train"])
