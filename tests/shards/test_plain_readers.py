"""Runs open with the formats' own libraries and none of our code."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
import zarr

from postmean.contract.records import QUALITY_COLUMNS, Records
from postmean.shards.codec import Layout
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from tests.support.shard_examples import LAYOUT, concatenate_records, manifest_of, plan_of, records_of

SELF_CONTAINED = [
    replace(LAYOUT, self_contained=True),
    replace(LAYOUT, self_contained=True, has_next=True, has_sigma_next=True, labels=False),
]


def write_run(folder: Path, layout: Layout, codec_name: str) -> Records:
    """Write every shard of a run, the last one short; returns all records."""
    run = RunFolder(open_storage(folder))
    plan = plan_of(layout)
    run.begin(manifest_of(layout, codec_name), plan, None)
    parts = [records_of(layout, shard) for shard in range(len(plan))]
    for shard in reversed(range(len(plan))):
        run.commit_shard(plan[shard], parts[shard])
    return concatenate_records(parts)


def numbers_of(records: Records) -> dict[str, np.ndarray]:
    """The columns of one number for each record, without those of means."""
    names = ("tuple_id", "sigma", "sigma_next", "label", *QUALITY_COLUMNS)
    return {name: getattr(records, name) for name in names if getattr(records, name) is not None}


@pytest.mark.parametrize("layout", SELF_CONTAINED, ids=["euler", "heun without labels"])
def test_webdataset_reads_self_contained_tars(layout: Layout, tmp_path: Path) -> None:
    records = write_run(tmp_path, layout, "webdataset")
    tars = sorted(str(path) for path in (tmp_path / "shards").iterdir())
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == [f"{n:015d}" for n in records.tuple_id]
    images = {"z.npy": records.plain["z"], "x.npy": records.plain["x"], "mean.npy": records.mean.dense}
    if records.mean_next is not None:
        images["mean_next.npy"] = records.mean_next.dense
    for name, expected in images.items():
        found = np.stack([sample[name] for sample in samples])
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    numbers = numbers_of(records)
    for sample in samples:
        assert sample["json"].keys() == numbers.keys()
    for name, expected in numbers.items():
        np.testing.assert_array_equal([sample["json"][name] for sample in samples], expected)


def test_webdataset_reads_blocks_of_a_plain_run(tmp_path: Path) -> None:
    records = write_run(tmp_path, LAYOUT, "webdataset")
    tars = sorted(str(path) for path in (tmp_path / "shards").iterdir())
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode())
    for name, expected in records.to_arrays().items():
        np.testing.assert_array_equal(np.concatenate([s[f"{name}.npy"] for s in samples]), expected)


@pytest.mark.parametrize("layout", SELF_CONTAINED, ids=["euler", "heun without labels"])
def test_zarr_opens_a_self_contained_run(layout: Layout, tmp_path: Path) -> None:
    records = write_run(tmp_path, layout, "zarr")
    group = dict(zarr.open_group(tmp_path / "targets.zarr", mode="r").arrays())
    expected = numbers_of(records) | records.plain
    expected["mean"] = records.mean.dense
    if records.mean_next is not None:
        expected["mean_next"] = records.mean_next.dense
    assert group.keys() == expected.keys()
    for name, array in expected.items():
        assert group[name].dtype == array.dtype
        np.testing.assert_array_equal(np.asarray(group[name][:]), array)


def test_zarr_opens_a_plain_run(tmp_path: Path) -> None:
    layout = replace(LAYOUT, has_next=True, has_sigma_next=True)
    records = write_run(tmp_path, layout, "zarr")
    arrays = zarr.open_group(tmp_path / "targets.zarr", mode="r").arrays()
    group = {name: np.asarray(array[:]) for name, array in arrays}
    assert records.mean_next is not None
    for target, means in (("mean", records.mean), ("mean_next", records.mean_next)):
        count = group[f"{target}_count"]
        np.testing.assert_array_equal(count, means.count)
        np.testing.assert_array_equal(group[target][count < 0], means.dense)
        assert not group[target][count >= 0].any()
        starts = np.cumsum(np.maximum(count, 0)) - np.maximum(count, 0)
        for row in range(len(count)):
            pairs = slice(starts[row], starts[row] + max(count[row], 0))
            np.testing.assert_array_equal(group[f"{target}_entry"][row, : max(count[row], 0)], means.entry[pairs])
            np.testing.assert_array_equal(group[f"{target}_weight"][row, : max(count[row], 0)], means.weight[pairs])
            assert not group[f"{target}_weight"][row, max(count[row], 0) :].any()


def test_a_zarr_shard_of_zeros_is_written_all_the_same(tmp_path: Path) -> None:
    records = write_run(tmp_path, LAYOUT, "zarr")
    assert not records.tail_mass.any()
    assert (tmp_path / "targets.zarr/tail_mass/c.0").is_file()
    assert not (tmp_path / "zarr.json").exists()


def test_manifest_and_plan_are_plain_json_and_parquet(tmp_path: Path) -> None:
    records = write_run(tmp_path, LAYOUT, "webdataset")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["recipe"]["noise"]["kind"] == "lognormal"
    assert manifest["shards"]["records_per_shard"] == LAYOUT.records_per_shard
    plan = pq.read_table(tmp_path / "plan.parquet").to_pydict()
    assert plan["records"] == [24, 16]
    assert (plan["first_tuple"][0], plan["last_tuple"][-1]) == (records.tuple_id[0], records.tuple_id[-1])
    commit = json.loads((tmp_path / "commits/000000.json").read_text())
    assert commit["files"][0]["size"] == (tmp_path / commit["files"][0]["path"]).stat().st_size
