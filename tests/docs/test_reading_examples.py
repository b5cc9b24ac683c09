"""Every Python example of the pages on reading runs as it stands, on runs made as the pages say."""

import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from postmean.contract.noise import ICTNoise
from postmean.runs.config import ExportConfig
from postmean.runs.export import export
from tests.support.runs import indexed_store, make_by_hand
from tests.support.settings import generate_config

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = {
    f"{page.stem} {number}": source
    for page in (DOCS / "reading.md", DOCS / "record-format.md")
    for number, source in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
}
LIBRARIES = ("datasets", "webdataset", "zarr", "xarray", "tensorstore", "duckdb", "polars", "pyarrow", "tarfile")
QUICK = ("tarfile", "pyarrow", "webdataset", "zarr", "postmean", "duckdb", "polars")


def libraries(source: str) -> set[str]:
    return set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)) & {*LIBRARIES, "postmean"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reading")
    store = indexed_store(root / "digits.store", 300)
    ict = ICTNoise(total_steps=4, batch_size=100, s0=4, s1=16)
    make_by_hand(generate_config(store, root / "targets", tuples=600, records_per_shard=100))
    make_by_hand(generate_config(store, root / "plain-targets", tuples=100, self_contained=True))
    make_by_hand(
        generate_config(
            store, root / "zarr-targets", tuples=400, self_contained=True, format="zarr", noise=ict, solver="heun"
        )
    )
    export(ExportConfig(targets=str(root / "targets")))
    return root


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.chdir(folder)
    yield folder


def test_every_library_has_its_example() -> None:
    assert {name for source in EXAMPLES.values() for name in libraries(source)} == {*LIBRARIES, "postmean"}


@pytest.mark.parametrize("name", [name for name, source in EXAMPLES.items() if libraries(source) <= {*QUICK}])
def test_example_runs(inside: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    exec(compile(EXAMPLES[name], name, "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, source in EXAMPLES.items() if not libraries(source) <= {*QUICK}])
def test_example_with_a_heavy_library_runs_without_a_warning(inside: Path, name: str, tmp_path: Path) -> None:
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-W", "error::RuntimeWarning", "-c", EXAMPLES[name]],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "Warning" not in done.stderr


@pytest.mark.slow
def test_xarray_and_datasets_find_what_zarr_and_webdataset_hold(inside: Path, tmp_path: Path) -> None:
    import datasets
    import webdataset
    import xarray
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xarray.open_zarr("zarr-targets/targets.zarr")
    group = dict(zarr.open_group("zarr-targets/targets.zarr", mode="r").arrays())
    assert set(opened.data_vars) == group.keys() and {"sigma", "label"} <= group.keys()
    for name, array in group.items():
        assert opened[name].dtype == array.dtype
        np.testing.assert_array_equal(opened[name].values, array[:])

    loaded = datasets.load_dataset("plain-targets", split="train", cache_dir=str(tmp_path)).with_format("numpy")
    samples = list(webdataset.WebDataset("plain-targets/shards/000000.tar", shardshuffle=False).decode())
    assert len(loaded) == len(samples) == 100
    for row, sample in zip(loaded, samples, strict=True):
        assert dict(row["json"]) == sample["json"]
        np.testing.assert_array_equal(row["mean.npy"].reshape(-1), sample["mean.npy"].astype(np.float32).reshape(-1))
