"""A store with hostile class names and duplicates, and runs of it."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from postmean.cli.index import run as index
from postmean.contract.image_store import ImageStore, StoreWriter
from postmean.training.images import write_grid
from tests.support.runs import make_by_hand
from tests.support.settings import generate_config
from tests.support.stores import digits_store

HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """200 digits: image 7 is there three times, and image 9 twice with one grey level more in one pixel."""
    root = tmp_path_factory.mktemp("pages")
    digits = digits_store(root / "digits.store", 197)
    labels = digits.labels
    assert labels is not None
    near = digits.images[[7, 7, 9]].copy()
    near[2, 0, 0, 0] += 8
    with StoreWriter(
        root / "hostile.store", tuple(f"{HOSTILE}{digit}" for digit in range(10)), {"importer": HOSTILE}
    ) as writer:
        writer.append(digits.images, labels)
        writer.append(near, labels[[7, 7, 9]])
        made = writer.finish()
    assert index([str(made.path)]) == 0
    return made


@pytest.fixture(scope="session")
def run(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of some 900 records in 9 shards."""
    out = tmp_path_factory.mktemp("pages") / "targets"
    make_by_hand(generate_config(store, out, tuples=1500, records_per_shard=100))
    return out


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a training run, 400 steps of 500 done: lines of metrics with two scores, and two grids."""
    out, rng = tmp_path_factory.mktemp("pages") / "model", np.random.default_rng(0)
    out.mkdir()
    recipe = {"steps": 500, "batch_size": 128, "loss": {"kind": "ict"}, "network": {"kind": HOSTILE}}
    (out / "config.json").write_text(json.dumps({"config": recipe}))
    lines = []
    for step in range(10, 410, 10):
        line: dict[str, Any] = dict(time=1.8e9 + step, step=step, kimg=step * 0.128, loss=100 / step, lr=1e-3)
        names = ("0..0.05", "0.05..0.2", "0.2..1", "1..4", "4..16", "16..inf")
        line["loss_by_sigma"] = {name: 90 / step + i for i, name in enumerate(names) if i < 5 or step % 20}
        line |= dict(data_wait_share=0.01, images_per_second=900 + step, gradient_norm=float(rng.random()) + 1)
        line |= dict(noise_stage=step // 110, peak_memory_bytes=3 << 30)
        if step % 200 == 0:
            scores = dict(fid=10.0 + step, kid=0.1, precision=0.5, recall=0.4, inception_score=3.0)
            line["scores"] = scores | dict(images=5000, reference_images=200)
        lines.append(json.dumps(line) + "\n")
    (out / "metrics.jsonl").write_text("".join(lines))
    (out / "grids").mkdir()
    for step in (200, 400):
        pixels = rng.integers(0, 256, (64, 1, 8, 8), np.uint8)
        write_grid(out / "grids" / f"{step:08d}.png", pixels, columns=8)
    return out


class Parsed(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(filter(None, self.words))

    def check_alone(self) -> None:
        """The page needs nothing else, and runs nothing."""
        assert not [tag for tag, _ in self.tags if tag in ("script", "iframe", "object", "embed", "form", "base", "a")]
        for tag, attributes in self.tags:
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            for name in ("src", "href"):
                assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
        assert (
            len({a["content"] for t, a in self.tags if t == "meta" and a.get("http-equiv", "").startswith("Content")})
            == 1
        )


def brute_nearest(images: np.ndarray) -> np.ndarray:
    """Squared distance of each image to its nearest other."""
    flat = images.reshape(len(images), -1).astype(np.int64)
    squared = np.square(flat[:, None] - flat[None]).sum(2)
    np.fill_diagonal(squared, np.iinfo(np.int64).max)
    return squared.min(1)
