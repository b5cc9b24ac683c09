"""Zarr v3: one group per segment of the run; each array of a group has one zarr shard per shard of the segment.

A shard of ours owns whole zarr shards: two writers of one zarr shard would lose records. zarr makes the chunk files in
memory; the storage writes them, so they appear atomically like all other files.

An extension gets its own group. More rows in the first group would follow the short shard at the end of a segment,
which would leave rows without a record in the middle of an array, and plain readers would take them for records. So
every row of every array is a record, and no file of a run ever changes.

A shard of ours is one file of each array, directly in the array's folder. With Zarr's default keys, c/7/0/0/0, each
file of images would have three folders of its own: a million folders for 253 thousand shards. Fewer files than one an
array would need one writer for several shards of ours.
"""

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from postmean.base.errors import ShardError
from postmean.base.extras import needs
from postmean.contract.plan import ShardPlan
from postmean.contract.records import PLAIN_COLUMNS, QUALITY_COLUMNS, Means, Records
from postmean.shards.codec import Layout, Segment
from postmean.shards.columns import check_records, columns, number_columns
from postmean.shards.zarr_chunks import check_chunks

with needs("zarr"):
    import zarr
    from zarr.codecs import BloscCodec
    from zarr.core.buffer import Buffer, default_buffer_prototype
    from zarr.storage import MemoryStore

GROUP = "targets.zarr"
"""Group of the first segment; the only group of a run that was never extended."""
INNER_CHUNK = 16
"""Most records of an inner chunk of images or pairs; a column of numbers has one inner chunk per shard."""


class ZarrCodec:
    """`targets.zarr/<array>/c.<shard>.0..`; extensions in `targets-0001.zarr` and so on, each with shards from 0.

    The first axis of every array runs over the segment's M records.

    The arrays are tuple_id, sigma, sigma_next and label if the run has them, the quality columns, and for mean (and
    mean_next with heun): `mean` float16 [M, C, H, W], zero for sparse records; `mean_count` int32 [M], -1 for dense
    records; `mean_entry` uint32 and `mean_weight` float32 [M, max(1, max_support)], zero beyond the count.
    Self-contained runs have only `mean` (and `mean_next`), all dense, and z and x.
    """

    name = "zarr"

    def encode(self, records: Records, row: ShardPlan, layout: Layout) -> dict[str, bytes]:
        check_records(records, row, layout, f"{GROUP} shard {row.shard}")
        segment = _segment(row, layout)
        start, stop = _span(row, segment, layout)
        files: dict[str, Buffer] = {}
        values = _to_arrays(records, layout)
        for name, array in _create(layout, segment, files).items():
            array[start:stop] = values[name]
        return {path: files[_key(path)].to_bytes() for path in self.paths(row, layout)}

    def decode(self, row: ShardPlan, layout: Layout, read: Callable[[str], bytes]) -> Records:
        segment = _segment(row, layout)
        start, stop = _span(row, segment, layout)
        files: dict[str, Buffer] = {}
        arrays = _create(layout, segment, files)
        values = {}
        for (name, spec), path in zip(_arrays(layout, segment).items(), self.paths(row, layout), strict=True):
            data = read(path)
            check_chunks(data, spec.inner, spec.shard, row.records, spec.record_bytes, path)
            key = _key(path)
            files[key] = default_buffer_prototype().buffer.from_bytes(data)
            try:
                values[name] = np.asarray(arrays[name][start:stop])
            except (RuntimeError, ValueError, TypeError) as error:
                raise ShardError(f"{path}: damaged ({error})") from error
            del files[key]
        records = _from_arrays(values, layout)
        check_records(records, row, layout, f"{GROUP} shard {row.shard}")
        return records

    def decode_parts(self, row: ShardPlan, layout: Layout, read: Callable[[str], bytes]) -> list[Records]:
        return [self.decode(row, layout, read)]

    def paths(self, row: ShardPlan, layout: Layout) -> list[str]:
        segment = _segment(row, layout)
        group, chunk = group_of(segment), row.shard - segment.first_shard
        separator = _separator(layout)
        return [
            f"{group}/{name}/{separator.join(('c', str(chunk), *'0' * (len(spec.shape) - 1)))}"
            for name, spec in _arrays(layout, segment).items()
        ]

    def run_files(self, layout: Layout, attributes: dict[str, Any]) -> dict[str, bytes]:
        metadata = {}
        for segment in layout.segments:
            files: dict[str, Buffer] = {}
            _create(layout, segment, files, attributes)
            with warnings.catch_warnings():
                # it is an extension of Zarr v3 that zarr, xarray and others read: one request instead of one an array
                warnings.filterwarnings("ignore", message="Consolidated metadata")
                zarr.consolidate_metadata(MemoryStore(files))
            metadata |= {f"{group_of(segment)}/{path}": files[path].to_bytes() for path in sorted(files)}
        return metadata


def group_of(segment: Segment) -> str:
    """Folder of a segment's group."""
    return GROUP if segment.number == 0 else f"targets-{segment.number:04d}.zarr"


def _separator(layout: Layout) -> Literal["/", "."]:
    """Between the parts of a chunk's key."""
    return "/" if layout.chunk_folders else "."


def _key(path: str) -> str:
    """Path within the group."""
    return path.partition("/")[2]


def _segment(row: ShardPlan, layout: Layout) -> Segment:
    for segment in layout.segments:
        if 0 <= row.shard - segment.first_shard < segment.shards:
            return segment
    raise ShardError(f"shard {row.shard}: the run has {layout.total_records} records: its plan was edited")


class _Array(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    inner: int
    """Records of an inner chunk."""
    shard: int
    """Records of a shard."""
    dimensions: tuple[str, ...]

    @property
    def record_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize


def _arrays(layout: Layout, segment: Segment) -> dict[str, _Array]:
    """The group's arrays by name, in the order of `ShardCodec.paths`, with the dtypes of their columns."""
    shard = layout.records_per_shard
    inner = max(size for size in range(1, INNER_CHUNK + 1) if shard % size == 0)
    expected = columns(layout)

    def numbers(column: str) -> _Array:
        return _Array(expected[column].dtype, (segment.records,), shard, shard, ("record",))

    def pairs(column: str) -> _Array:
        shape = (segment.records, max(1, layout.max_support))
        return _Array(expected[column].dtype, shape, inner, shard, ("record", "pair"))

    def images(column: str) -> _Array:
        shape = (segment.records, *layout.image_shape)
        return _Array(expected[column].dtype, shape, inner, shard, ("record", "channel", "row", "column"))

    arrays = {name: numbers(name) for name in number_columns(layout)}
    for target in ("mean", "mean_next") if layout.has_next else ("mean",):
        arrays[target] = images(f"{target}.dense")
        if not layout.self_contained:
            arrays[f"{target}_count"] = numbers(f"{target}.count")
            arrays[f"{target}_entry"] = pairs(f"{target}.entry")
            arrays[f"{target}_weight"] = pairs(f"{target}.weight")
    return arrays | {name: images(name) for name in PLAIN_COLUMNS if name in expected}


def _create(
    layout: Layout, segment: Segment, files: dict[str, Buffer], attributes: dict[str, Any] | None = None
) -> dict[str, zarr.Array]:
    """Create the group's arrays, stored in `files` (by path within the group), with metadata but no chunks."""
    group = zarr.create_group(MemoryStore(files), zarr_format=3, attributes=attributes or {})
    return {
        name: group.create_array(
            name,
            shape=spec.shape,
            dtype=spec.dtype,
            shards=(spec.shard, *spec.shape[1:]),
            chunks=(spec.inner, *spec.shape[1:]),
            filters=None,
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
            fill_value=0,
            dimension_names=spec.dimensions,
            chunk_key_encoding={"name": "default", "separator": _separator(layout)},
            # chunks of zeros are written too: a lost file must not read as zeros
            config={"write_empty_chunks": True},
        )
        for name, spec in _arrays(layout, segment).items()
    }


def _span(row: ShardPlan, segment: Segment, layout: Layout) -> tuple[int, int]:
    """Range of the shard's records among the segment's: first, and one past the last."""
    start = (row.shard - segment.first_shard) * layout.records_per_shard
    stop = start + row.records
    if not 0 < row.records <= layout.records_per_shard or stop > segment.records:
        raise ShardError(f"shard {row.shard}: {row.records} records do not fit the run: its plan was edited")
    return start, stop


def _to_arrays(records: Records, layout: Layout) -> dict[str, np.ndarray]:
    arrays = {name: getattr(records, name) for name in number_columns(layout)} | records.plain
    for target in ("mean", "mean_next") if layout.has_next else ("mean",):
        means: Means = getattr(records, target)
        if layout.self_contained:
            arrays[target] = means.dense
            continue
        arrays[target] = np.zeros((len(means), *layout.image_shape), means.dense.dtype)
        arrays[target][means.count < 0] = means.dense
        used = _used(means.count, layout)
        for name in ("entry", "weight"):
            values = getattr(means, name)
            arrays[f"{target}_{name}"] = np.zeros(used.shape, values.dtype)
            arrays[f"{target}_{name}"][used] = values
        arrays[f"{target}_count"] = means.count
    return arrays


def _from_arrays(arrays: dict[str, np.ndarray], layout: Layout) -> Records:
    def means(target: str) -> Means:
        dense = arrays[target]
        if layout.self_contained:
            count = np.full(len(dense), -1, np.int32)
            return Means(count, np.empty(0, np.uint32), np.empty(0, np.float32), dense)
        count = arrays[f"{target}_count"]
        used = _used(count, layout)
        return Means(count, arrays[f"{target}_entry"][used], arrays[f"{target}_weight"][used], dense[count < 0])

    return Records(
        tuple_id=arrays["tuple_id"],
        sigma=arrays["sigma"],
        sigma_next=arrays.get("sigma_next"),
        label=arrays.get("label"),
        mean=means("mean"),
        mean_next=means("mean_next") if layout.has_next else None,
        **{name: arrays[name] for name in QUALITY_COLUMNS},
        plain={name: arrays[name] for name in PLAIN_COLUMNS if name in arrays},
    )


def _used(count: np.ndarray, layout: Layout) -> np.ndarray:
    """Mask [R, max(1, max_support)] of the pairs that each record has."""
    return np.arange(max(1, layout.max_support)) < count[:, None]
