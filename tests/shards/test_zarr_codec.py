"""The Zarr codec: sizes in a file are checked before anything of that size is allocated."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from postmean.base.errors import ShardError
from postmean.contract.records import QUALITY_COLUMNS
from postmean.shards.codec import Layout
from postmean.shards.run_folder import RunFolder
from postmean.shards.zarr_codec import GROUP, ZarrCodec
from postmean.storage.open import open_storage
from tests.support.shard_examples import LAYOUT, assert_equal, manifest_of, plan_of, records_of

MEAN = f"{GROUP}/mean/c.0.0.0.0"
TUPLE_ID = f"{GROUP}/tuple_id/c.0"


@pytest.mark.parametrize(("records_per_shard", "inner"), [(4096, 16), (24, 12), (7, 7), (1009, 1), (96, 16)])
def test_inner_chunks_divide_the_shard(records_per_shard: int, inner: int) -> None:
    layout = replace(LAYOUT, records_per_shard=records_per_shard, total_records=min(2 * records_per_shard - 1, 100))
    metadata = json.loads(ZarrCodec().run_files(layout, {})[f"{GROUP}/mean/zarr.json"])
    assert metadata["codecs"][0]["configuration"]["chunk_shape"] == [inner, 3, 4, 5]
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [records_per_shard, 3, 4, 5]
    records = records_of(layout, 0)
    row = plan_of(layout)[0]
    assert_equal(ZarrCodec().decode(row, layout, ZarrCodec().encode(records, row, layout).__getitem__), records)


def test_a_shard_is_a_file_an_array_and_no_folder(tmp_path: Path) -> None:
    run = RunFolder(open_storage(tmp_path))
    run.begin(manifest_of(LAYOUT, "zarr"), plan_of(LAYOUT), None)
    folders = {path for path in tmp_path.rglob("*") if path.is_dir()}
    commits = [run.commit_shard(row, records_of(LAYOUT, row.shard)) for row in (run.read_plan()[0], run.read_plan()[1])]
    arrays = {path.parent for path in tmp_path.rglob("zarr.json")} - {tmp_path / GROUP}
    assert {len(commit.files) for commit in commits} == {len(arrays)}
    more = {path for path in tmp_path.rglob("*") if path.is_dir()} - folders
    assert {path.name for path in more} == {"commits"}


@pytest.mark.parametrize("layout", [LAYOUT, replace(LAYOUT, has_next=True, has_sigma_next=True)])
def test_runs_of_schema_4_whose_chunks_lie_in_folders_are_read(layout: Layout, tmp_path: Path) -> None:
    run = RunFolder(open_storage(tmp_path))
    run.begin(replace(manifest_of(layout, "zarr"), schema_version=4), plan_of(layout), None)
    records = [records_of(layout, shard) for shard in range(len(run.read_plan()))]
    for shard, of_shard in enumerate(records):
        run.commit_shard(run.read_plan()[shard], of_shard)
    assert (tmp_path / GROUP / "mean/c/1/0/0/0").is_file()
    encoding = json.loads((tmp_path / GROUP / "mean/zarr.json").read_text())["chunk_key_encoding"]
    assert encoding == {"name": "default", "configuration": {"separator": "/"}}
    again = RunFolder(open_storage(tmp_path))
    assert again.read_manifest().schema_version == 4
    for shard, of_shard in enumerate(records):
        assert_equal(again.read_shard(shard), of_shard)


def test_a_run_without_records_has_its_metadata() -> None:
    files = ZarrCodec().run_files(replace(LAYOUT, total_records=0), {})
    assert f"{GROUP}/zarr.json" in files


def test_a_self_contained_run_has_no_sparse_columns() -> None:
    layout = replace(LAYOUT, self_contained=True, has_next=True)
    names = {path.split("/")[1] for path in ZarrCodec().paths(plan_of(layout)[0], layout)}
    assert names == {"tuple_id", *QUALITY_COLUMNS, "mean", "mean_next", "z", "x", "sigma", "label"}


@pytest.mark.parametrize("path", [MEAN, TUPLE_ID])
@pytest.mark.parametrize("nbytes", [0, 1, 2**31 - 1, 2**32 - 1])
def test_a_chunk_that_claims_another_size_is_refused_before_room_is_made(path: str, nbytes: int) -> None:
    row, files = encoded(LAYOUT)
    data = np.frombuffer(files[path], np.uint8).copy()
    data[4:8] = np.frombuffer(np.uint32(nbytes).tobytes(), np.uint8)
    tracemalloc.start()
    with pytest.raises(ShardError, match="not of the run's size"):
        ZarrCodec().decode(row, LAYOUT, (files | {path: data.tobytes()}).__getitem__)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize("offset", [0, 2**32, 2**62, 2**63, 2**64 - 2, 2**64 - 1])
@pytest.mark.parametrize("size", [0, 15, 16, 2**32, 2**63, 2**64 - 1])
def test_an_index_that_points_elsewhere_is_refused(offset: int, size: int) -> None:
    row, files = encoded(LAYOUT)
    data = bytearray(files[MEAN])
    index = len(data) - 4 - 16 * 2
    data[index : index + 16] = offset.to_bytes(8, "little") + size.to_bytes(8, "little")
    with pytest.raises(ShardError):
        ZarrCodec().decode(row, LAYOUT, (files | {MEAN: bytes(data)}).__getitem__)


def encoded(layout: Layout) -> tuple:
    row = plan_of(layout)[0]
    return row, ZarrCodec().encode(records_of(layout, 0), row, layout)
