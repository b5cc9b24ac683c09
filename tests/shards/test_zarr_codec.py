"""The Zarr codec: sizes in a file are checked before anything of that size is allocated."""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from postmean.base.errors import ShardError
from postmean.contract.records import QUALITY_COLUMNS
from postmean.shards.codec import Layout
from postmean.shards.zarr_codec import GROUP, ZarrCodec
from tests.support.shard_examples import LAYOUT, assert_equal, plan_of, records_of

MEAN = f"{GROUP}/mean/c/0/0/0/0"
TUPLE_ID = f"{GROUP}/tuple_id/c/0"


@pytest.mark.parametrize(("records_per_shard", "inner"), [(4096, 16), (24, 12), (7, 7), (1009, 1), (96, 16)])
def test_inner_chunks_divide_the_shard(records_per_shard: int, inner: int) -> None:
    layout = replace(LAYOUT, records_per_shard=records_per_shard, total_records=min(2 * records_per_shard - 1, 100))
    metadata = json.loads(ZarrCodec().run_files(layout, {})[f"{GROUP}/mean/zarr.json"])
    assert metadata["codecs"][0]["configuration"]["chunk_shape"] == [inner, 3, 4, 5]
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [records_per_shard, 3, 4, 5]
    records = records_of(layout, 0)
    row = plan_of(layout)[0]
    assert_equal(ZarrCodec().decode(row, layout, ZarrCodec().encode(records, row, layout).__getitem__), records)


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
