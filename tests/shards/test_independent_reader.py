"""docs/record-format.md is enough to read a run: a reader written from it alone finds what the trainer gets."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from postmean.contract.image_store import ImageStore
from postmean.contract.noise import (
    CTNoise,
    ECTNoise,
    FloorNoise,
    ICTNoise,
    LogitNormalTimeNoise,
    MeanFlowNoise,
    UniformTimeNoise,
)
from postmean.contract.process import FlowMatchingProcess, TableProcess, VPProcess
from postmean.training.stream.stream import TargetStream
from tests.support.independent_reader import Run
from tests.support.runs import indexed_store, make_by_hand
from tests.support.settings import generate_config

TUPLES = 240
ICT = ICTNoise(total_steps=4, batch_size=60, s0=4, s1=16)
TABLE = TableProcess(t_knots=(0.0, 0.4, 1.0), s_knots=(1.0, 0.9, 0.5), sigma_knots=(0.01, 0.5, 9.0))
RUNS: dict[str, dict[str, Any]] = {
    "lognormal": {},
    "lognormal in zarr": {"format": "zarr"},
    "ict, heun, flips": {"noise": ICT, "solver": "heun", "flips": True},
    "ict, heun, flips in zarr": {"noise": ICT, "solver": "heun", "flips": True, "format": "zarr"},
    "ect, conditional": {"noise": ECTNoise(stage_tuples=100), "conditional": True},
    "vp": {"process": VPProcess(), "noise": UniformTimeNoise()},
    "flow": {"process": FlowMatchingProcess(), "noise": LogitNormalTimeNoise()},
    "ct": {"noise": CTNoise(total_steps=4, batch_size=60, s1=30)},
    "meanflow": {"noise": MeanFlowNoise(), "process": FlowMatchingProcess()},
    "floor": {"noise": FloorNoise(sigma=(0.01, 0.3, 1.0, 40.0), density=(1.0, 1.0, 6.0, 0.5))},
    "a table": {"process": TABLE, "noise": UniformTimeNoise(t_min=0.01)},
    "self-contained": {"self_contained": True, "noise": ICT},
    "self-contained in zarr": {"self_contained": True, "noise": ICT, "solver": "heun", "format": "zarr"},
    "all dense, another seed": {"max_support": 0, "seed": 2**40 + 1},
}
LONGER = ("ct", "lognormal in zarr", "ict, heun, flips in zarr", "vp", "flow", "floor")
CASES = [pytest.param(v, id=k, marks=[pytest.mark.slow] if k in LONGER else []) for k, v in RUNS.items()]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return indexed_store(tmp_path_factory.mktemp("independent") / "digits.store", 100)


def test_it_imports_nothing_of_ours() -> None:
    tree = ast.parse((Path(__file__).parents[1] / "support/independent_reader.py").read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in names if name.split(".")[0] in ("postmean", "tests")]


def stream_of(out: Path, store: ImageStore, tuples: int) -> dict[str, np.ndarray]:
    batches = list(TargetStream.open(out, store, tuples // 4))
    names = [name for name in vars(batches[0]) if isinstance(getattr(batches[0], name), torch.Tensor)]
    return {name: torch.cat([getattr(batch, name) for batch in batches]).numpy() for name in names}


def check(out: Path, store: ImageStore, tuples: int) -> None:
    found, expected = Run(out, store.path).targets(), stream_of(out, store, tuples)
    assert expected.keys() - found.keys() == {"eps", "certified", "ess", "variance", "top_weight"}
    assert not found.keys() - expected.keys()
    for name, column in found.items():
        np.testing.assert_allclose(column, expected[name], rtol=2e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("settings", CASES)
def test_it_finds_the_targets_of_the_trainer(store: ImageStore, tmp_path: Path, settings: dict[str, Any]) -> None:
    make_by_hand(generate_config(store, tmp_path, tuples=TUPLES, records_per_shard=50, **settings))
    check(tmp_path, store, TUPLES)


@pytest.mark.parametrize("format", ["webdataset", "zarr"])
def test_it_reads_a_run_that_was_extended(store: ImageStore, tmp_path: Path, format: str) -> None:
    for tuples in (100, TUPLES):
        make_by_hand(generate_config(store, tmp_path, tuples=tuples, records_per_shard=30, format=format))
    check(tmp_path, store, TUPLES)
