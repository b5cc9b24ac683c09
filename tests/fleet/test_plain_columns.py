"""Self-contained runs are correct: opened with plain libraries, means recomputed by brute force."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
import zarr

from postmean.contract.image_store import ImageStore
from postmean.contract.noise import ICTNoise
from postmean.contract.settings import ShardFormat
from postmean.runs.config import GenerateConfig
from tests.support.runs import files_of, make_by_hand, postmean
from tests.support.settings import generate_config

TUPLES = 256
SIZES = {"tuples": TUPLES, "records_per_shard": 100, "seed": 3}
NOISE = ICTNoise(total_steps=4, batch_size=64, s0=4, s1=16)


def config(store: ImageStore, out: Path, format: ShardFormat) -> GenerateConfig:
    return generate_config(
        store,
        out,
        estimator="exact",
        noise=NOISE,
        solver="heun",
        self_contained=True,
        format=format,
        **SIZES,  # type: ignore[arg-type]
    )


def columns_of(out: Path, format: ShardFormat) -> dict[str, np.ndarray]:
    """The columns of all records, read with only the format's own library."""
    if format == "zarr":
        return {name: np.asarray(array[:]) for name, array in zarr.open_group(out / "targets.zarr", mode="r").arrays()}
    tars = sorted(str(path) for path in (out / "shards").iterdir())
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode())
    images = {name: np.stack([s[f"{name}.npy"] for s in samples]) for name in ("z", "x", "mean", "mean_next")}
    return images | {name: np.array([s["json"][name] for s in samples]) for name in samples[0]["json"]}


@pytest.mark.parametrize("format", ["webdataset", "zarr"])
def test_columns_agree_with_each_other_and_with_brute_force(
    store: ImageStore, tmp_path: Path, format: ShardFormat
) -> None:
    make_by_hand(config(store, tmp_path, format))
    check_columns(columns_of(tmp_path, format), np.load(store.path / "images.npy"), np.load(store.path / "labels.npy"))

    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["tuples"], manifest["recipe"]["noise"]["kind"]) == (TUPLES, "ict")
    assert manifest["shards"]["self_contained"] is True
    plan = pq.read_table(tmp_path / "plan.parquet").to_pydict()
    assert plan["records"] == [100, 100, 56]
    assert (plan["first_tuple"], plan["last_tuple"]) == ([0, 100, 200], [99, 199, 255])


def check_columns(columns: dict[str, np.ndarray], images: np.ndarray, labels: np.ndarray) -> None:
    assert columns["tuple_id"].tolist() == list(range(TUPLES))
    pixels = columns["x"].reshape(TUPLES, -1)
    data = images.reshape(len(images), -1)
    source = [int(np.flatnonzero((data == row).all(1))[0]) for row in pixels]
    assert labels[source].tolist() == columns["label"].tolist()

    x = pixels / 127.5 - 1
    z, sigma, later = (columns[name].reshape(TUPLES, -1).astype(float) for name in ("z", "sigma", "sigma_next"))
    eps = (z - x) / sigma
    # checks sigma: eps must be standard normal, 64 numbers per tuple
    assert np.abs(eps.mean()) < 4 / np.sqrt(eps.size)
    assert np.abs(np.square(eps).mean() - 1) < 4 * np.sqrt(2 / eps.size)
    assert ((later < sigma) & (later > 0)).all()
    grids = [np.unique(np.concatenate([sigma[a : a + 64], later[a : a + 64]])) for a in range(0, TUPLES, 64)]
    assert [len(grid) for grid in grids] == sorted(len(grid) for grid in grids)

    mean, odds = brute_force(z, sigma, data / 127.5 - 1)
    np.testing.assert_allclose(columns["mean"].reshape(TUPLES, -1), mean, atol=1e-3)
    np.testing.assert_allclose(columns["top_weight"], odds.max(1), atol=1e-4)
    np.testing.assert_allclose(columns["ess"], 1 / np.square(odds).sum(1), rtol=1e-3)
    euler = z + (later - sigma) * (z - mean) / sigma
    np.testing.assert_allclose(
        columns["mean_next"].reshape(TUPLES, -1), brute_force(euler, later, data / 127.5 - 1)[0], atol=2e-3
    )


def brute_force(z: np.ndarray, sigma: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Softmax over all images, by definition."""
    distance2 = np.square(z[:, None] - data[None]).sum(2)
    weight = np.exp(-(distance2 - distance2.min(1, keepdims=True)) / (2 * sigma**2))
    weight /= weight.sum(1, keepdims=True)
    return weight @ data, weight


@pytest.mark.slow
@pytest.mark.parametrize("format", ["webdataset", "zarr"])
def test_the_command_writes_the_same_columns(store: ImageStore, tmp_path: Path, format: ShardFormat) -> None:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items()]
    flags += [
        f"--noise.{name.replace('_', '-')}={getattr(NOISE, name)}" for name in ("total_steps", "batch_size", "s0", "s1")
    ]
    flags += ["--estimator=exact", "--solver=heun", "--self-contained", f"--format={format}", "--actors=2"]
    done = postmean("generate", "ict-digits", f"--store={store.path}", f"--out={tmp_path / 'run'}", *flags)
    assert done.returncode == 0, done.stderr
    make_by_hand(config(store, tmp_path / "by-hand", format))
    assert files_of(tmp_path / "run") == files_of(tmp_path / "by-hand")
