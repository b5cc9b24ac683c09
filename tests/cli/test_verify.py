"""`postmean verify` finds every kind of damage and then ends with code 4."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from postmean.base.progress import NoProgress
from postmean.cli.main import run as postmean
from postmean.contract.image_store import ImageStore
from postmean.contract.noise import ICTNoise, LogNormalNoise
from postmean.contract.records import Means, Records
from postmean.contract.settings import ShardFormat
from postmean.estimators import twin_test
from postmean.runs import recompute
from postmean.runs.verify import SIGMA_EDGES, check_run, judge
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from tests.support.runs import assert_one_line, make_by_hand
from tests.support.settings import generate_config, manifest


@pytest.fixture(scope="module")
def finished_zarr(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zarr") / "run"
    make_by_hand(generate_config(store, out, tuples=600, records_per_shard=64, estimator="exact", format="zarr"))
    return out


@pytest.fixture(params=["webdataset", "zarr"])
def damaged(request: pytest.FixtureRequest, finished: Path, finished_zarr: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of a finished run, and one file of its shard 2."""
    out = tmp_path / "damaged"
    shutil.copytree(finished if request.param == "webdataset" else finished_zarr, out)
    return out, out / ("shards/000002.tar" if request.param == "webdataset" else "targets.zarr/mean_weight/c.2.0")


def findings(capsys: pytest.CaptureFixture[str], out: Path, store: Path, *flags: str) -> str:
    assert postmean("verify", [str(out), f"--store={store}", *flags]) == 4
    return capsys.readouterr().err


def test_a_whole_run_is_well(finished: Path, finished_zarr: Path, store: ImageStore, capsys) -> None:
    for out in (finished, finished_zarr):
        assert postmean("verify", [str(out), f"--store={store.path}"]) == 0
        assert capsys.readouterr().out.endswith("all is well\n")


def test_a_flipped_byte_is_found(damaged: tuple[Path, Path], store: ImageStore, capsys) -> None:
    out, file = damaged
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 4
    file.write_bytes(data)
    found = findings(capsys, out, store.path)
    assert "shard 000002: " in found and "SHA-256 differs" in found
    assert f"remove {out}/commits/000002.json and run the same `postmean generate` again" in found


def test_a_truncated_shard_is_found(damaged: tuple[Path, Path], store: ImageStore, capsys) -> None:
    out, file = damaged
    size = file.stat().st_size
    os.truncate(file, size - 100)
    assert f"{size - 100} bytes, committed were {size}" in findings(capsys, out, store.path)


def test_a_missing_shard_is_found(damaged: tuple[Path, Path], store: ImageStore, capsys) -> None:
    out, file = damaged
    file.unlink()
    assert "shard 000002: " in findings(capsys, out, store.path)
    (out / "commits/000002.json").unlink()
    assert "1 of 6 shards are missing: run the same `postmean generate` again" in findings(capsys, out, store.path)


def rewrite(out: Path, shard: int, change) -> None:
    """Commit a shard again with changed records, so that its hash is valid."""
    run = RunFolder(open_storage(str(out)))
    records = run.read_shard(shard)
    run.commit_shard(run.read_plan()[shard], change(records))


@pytest.mark.parametrize("row", [0, 31, 63])
def test_a_wrong_mean_with_a_valid_hash_is_found(
    damaged: tuple[Path, Path], store: ImageStore, capsys, row: int
) -> None:
    out, _ = damaged

    def change(records: Records) -> Records:
        mean = records.mean.decode(store)
        mean[row] = np.clip(mean[row] + 0.02, -1, 1)
        return replace(records, mean=dense(mean))

    rewrite(out, 2, change)
    found = findings(capsys, out, store.path, "--records=1000")
    assert "records at sigma" in found and "do not train on this run" in found


def dense(mean: np.ndarray) -> Means:
    count = np.full(len(mean), -1, np.int32)
    return Means(count, np.empty(0, np.uint32), np.empty(0, np.float32), mean.astype(np.float16))


def spoil(records: Records, store: ImageStore, what: str) -> Records:
    mean = records.mean.decode(store)
    if what in ("nan", "range"):
        mean[5, 0, 3, 3] = np.nan if what == "nan" else 1.5
        return replace(records, mean=dense(mean))
    entry, weight = records.mean.entry.copy(), records.mean.weight.copy()
    if what == "entry":
        entry[-1] = len(store)
    elif what == "weight":
        weight[0] += 0.01
    else:
        weight[0] = np.nan
    return replace(records, mean=replace(records.mean, entry=entry, weight=weight))


@pytest.mark.parametrize("what", ["nan", "range", "entry", "weight", "nan weight"])
def test_values_that_no_mean_has_are_found_without_any_sample(
    damaged: tuple[Path, Path], store: ImageStore, capsys, what: str
) -> None:
    out, _ = damaged
    rewrite(out, 2, lambda records: spoil(records, store, what))
    assert "shard 000002: " in findings(capsys, out, store.path, "--records=0")


def test_a_changed_image_store_is_found(finished: Path, store: ImageStore, tmp_path: Path, capsys) -> None:
    for name, change, code in (("images.npy", 7, 4), ("labels.npy", 1, 2)):
        copy = tmp_path / name
        shutil.copytree(store.path, copy)
        data = bytearray((copy / name).read_bytes())
        data[-change] ^= 1
        (copy / name).write_bytes(data)
        assert postmean("verify", [str(finished), f"--store={copy}"]) == code
        assert_one_line(capsys.readouterr().err, name, "damaged", f"remove {copy} and import again")


def test_json_is_one_document_with_the_findings(damaged: tuple[Path, Path], store: ImageStore, capsys) -> None:
    out, file = damaged

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    assert postmean("verify", [str(out), f"--store={store.path}", "--json"]) == 0
    report = json.loads(capsys.readouterr().out, parse_constant=no_constant)
    assert (report["shards"], report["committed"], report["problems"]) == (6, 6, [])
    file.unlink()
    assert postmean("verify", [str(out), f"--store={store.path}", "--json"]) == 4
    report = json.loads(capsys.readouterr().out, parse_constant=no_constant)
    assert list(report["damaged"]) == ["2"] and len(report["problems"]) == 1


def test_the_sample_is_spread_evenly_over_sigma_even_with_one_record_a_shard(store: ImageStore, tmp_path: Path) -> None:
    tuples, size = 6400, 100
    settings = {"tuples": tuples, "records_per_shard": size, "estimator": "single-sample"}
    run = make_by_hand(generate_config(store, tmp_path, **settings))  # type: ignore[arg-type]
    shards = len(run.read_plan())
    report = check_run(run, store, shards)
    counts = [0] * (len(SIGMA_EDGES) - 1)
    for row in report.rows:
        counts[SIGMA_EDGES.index(row.sigma_from)] += row.count
    sigma = run.read_manifest().tuple_source().block(0, tuples).sigma
    expected = np.histogram(sigma, SIGMA_EDGES)[0] / size
    assert sum(counts) == shards == 64
    assert np.abs(np.array(counts) - expected).max() < 4  # of 64; the lowest of each shard would be off by 40
    assert check_run(run, store, shards).rows == report.rows


@pytest.mark.parametrize("format", ["webdataset", "zarr"])
def test_a_run_in_which_every_tuple_is_certified_is_complete_and_well(
    store: ImageStore, tmp_path: Path, capsys, format: ShardFormat
) -> None:
    arguments = ["edm-digits", f"--store={store.path}", f"--out={tmp_path}", "--tuples=300", f"--format={format}"]
    arguments += ["--noise.P-mean=-9", "--noise.P-std=0.1", "--estimator=exact"]
    assert postmean("generate", arguments) == 0
    assert "finished already: 0 shards, 0 records" in capsys.readouterr().out
    assert postmean("verify", [str(tmp_path), f"--store={store.path}"]) == 0


def test_a_run_that_went_on_on_another_gpu_is_well_and_says_so(
    damaged: tuple[Path, Path], store: ImageStore, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = damaged
    monkeypatch.setattr("postmean.shards.run_folder.machine_kind", lambda device: "a new GPU, torch 9")
    rewrite(out, 2, lambda records: records)
    assert postmean("verify", [str(out), f"--store={store.path}", "--json"]) == 0
    made_on = json.loads(capsys.readouterr().out)["made_on"]
    assert made_on["a new GPU, torch 9"] == 1
    assert sorted(made_on.values()) == [1, 5] and f"torch {torch.__version__}" in "".join(made_on)


class Passes(NoProgress):
    """Counts the images that a recomputation reads; `total` is what it said it would read."""

    read = total = 0

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        if self._what == "recompute":
            Passes.read, Passes.total = done, self._total


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_all_sampled_tuples_share_a_pass_and_their_euler_points_another(
    store: ImageStore, tmp_path: Path, solver: str, conditional: bool
) -> None:
    settings = {"tuples": 500, "records_per_shard": 64, "estimator": "exact", "conditional": conditional}
    noise = ICTNoise(batch_size=16, total_steps=3, s0=4, s1=16)
    run = make_by_hand(generate_config(store, tmp_path, noise=noise, solver=solver, **settings))  # type: ignore[arg-type]
    report = check_run(run, store, 100, show=Passes)
    assert judge(report, run.read_manifest()) == []
    assert report.recomputed > 90
    assert Passes.read == Passes.total == len(store) * (2 if solver == "heun" else 1)


def test_more_records_than_fit_into_a_pass_are_recomputed_in_several(
    finished: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(open_storage(str(finished)))
    whole = check_run(run, store, 100)
    monkeypatch.setattr(recompute, "_AT_ONCE", 17)
    parts = check_run(run, store, 100)
    assert [(row.kind, row.sigma_from, row.count) for row in parts.rows] == [
        (row.kind, row.sigma_from, row.count) for row in whole.rows
    ]
    np.testing.assert_allclose([r.mse for r in parts.rows], [r.mse for r in whole.rows], rtol=1e-6, atol=1e-20)


def test_a_short_time_recomputes_few_records_of_every_sigma_and_a_long_one_all(
    finished: Path, store: ImageStore, capsys
) -> None:
    found = {}
    for seconds in ("1e-6", "600"):
        assert postmean("verify", [str(finished), f"--store={store.path}", f"--seconds={seconds}", "--json"]) == 0
        found[seconds] = json.loads(capsys.readouterr().out)
    records = RunFolder(open_storage(str(finished))).read_plan().total_records
    assert [found[seconds]["recomputed"] for seconds in found] == [16, records]
    shares = []
    for report in found.values():
        counts = {row["sigma_from"]: row["count"] for row in report["rows"] if row["kind"] == "records"}
        shares.append({sigma: count / report["recomputed"] for sigma, count in counts.items()})
    few, all_of_them = shares
    assert all(abs(few.get(sigma, 0) - share) < 2 / 16 for sigma, share in all_of_them.items())


@pytest.fixture(scope="module", params=["knn-snis", "knn-stratified"])
def sampled(request: pytest.FixtureRequest, store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A right run of an estimator that samples; never written to."""
    out = tmp_path_factory.mktemp("sampled") / "run"
    settings = {"tuples": 128, "records_per_shard": 64, "k": 20, "n": 32, "m": 32, "certificate": False}
    make_by_hand(generate_config(store, out, estimator=request.param, noise=LogNormalNoise(P_mean=1.0), **settings))
    return out


def test_a_right_run_that_samples_is_compared_with_its_twin(sampled: Path, store: ImageStore, capsys) -> None:
    assert postmean("verify", [str(sampled), f"--store={store.path}"]) == 0
    assert "64 compared with " in capsys.readouterr().out
    (twin,) = check_run(RunFolder(open_storage(str(sampled))), store, 128).twins
    assert (twin.kind, twin.is_other) == ("records", False)


def wrong(records: Records, store: ImageStore, fault: str) -> Records:
    mean = records.mean.decode(store)
    if fault == "swapped":
        mean[[5, 6]] = mean[[6, 5]]
    else:
        mean += 0.05 * (store.images.mean(0) / 127.5 - 1 - mean)
    return replace(records, mean=dense(mean))


@pytest.mark.parametrize("fault", ["swapped", "biased"])
def test_a_wrong_run_that_samples_is_found(
    sampled: Path, store: ImageStore, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(twin_test, "VIRTUAL_RUNS", 499)
    out = tmp_path / "run"
    shutil.copytree(sampled, out)
    for shard in range(2):
        rewrite(out, shard, lambda records: wrong(records, store, fault))
    assert "means are not distributed as those of knn-" in findings(capsys, out, store.path, "--records=128")


def test_a_run_with_other_neighbours_than_its_manifest_says_is_found(
    sampled: Path, store: ImageStore, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "run"
    shutil.copytree(sampled, out)
    rewrite(out, 1, lambda records: replace(records, support_size=records.support_size // 2))
    found = findings(capsys, out, store.path, "--records=0")
    assert "shard 000001: a mean was made from 10 neighbours, the run's are 20" in found


def test_an_approximate_search_has_no_twin() -> None:
    for index, expected in (("exact", True), ("flat", True), ("sq8", True), ("ivf4-sq8", False)):
        assert recompute.is_judged(manifest(estimator="knn-snis", index=index)) == expected
