"""WebDataset: one deterministic tar per shard, read without ever unpickling.

A sample of a plain run is a block of records: with one record per sample, each would have 1-2.5 KB of padding and be
read ten times slower. A sample of a self-contained run is one record, as users of `webdataset` expect.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from postmean.base.errors import ShardError
from postmean.base.json_files import JsonError, parse_json
from postmean.contract.plan import ShardPlan
from postmean.contract.records import Records
from postmean.shards.codec import Layout
from postmean.shards.columns import check_parts, check_records, columns, number_columns
from postmean.shards.npy import from_npy, to_npy
from postmean.shards.run_paths import tar_path
from postmean.shards.tar import pack, unpack

BLOCK = 256
"""Records per sample of a plain run; the last sample of a shard may have fewer."""
_KEY_DIGITS = 15


class WebDatasetCodec:
    """`shards/000042.tar`. Member names are `<tuple id of the sample's first record>.<column>.npy`.

    Plain run: the arrays of `Records.to_arrays`, for a block of records. Self-contained run: z.npy float32, x.npy
    uint8, mean.npy and (with heun) mean_next.npy float16, all [C, H, W]; and `<tuple id>.json` with tuple_id, sigma,
    sigma_next (with a teacher point), label (with labels) and the quality columns.
    """

    name = "webdataset"

    def encode(self, records: Records, row: ShardPlan, layout: Layout) -> dict[str, bytes]:
        (path,) = self.paths(row, layout)
        check_records(records, row, layout, path)
        members = _encode_samples(records, layout) if layout.self_contained else _encode_blocks(records, layout)
        return {path: pack(members)}

    def decode(self, row: ShardPlan, layout: Layout, read: Callable[[str], bytes]) -> Records:
        (path,) = self.paths(row, layout)
        members = unpack(read(path), path)
        decode = _decode_samples if layout.self_contained else _decode_blocks
        records = Records.from_arrays(decode(members, layout, path), path)
        check_records(records, row, layout, path)
        return records

    def decode_parts(self, row: ShardPlan, layout: Layout, read: Callable[[str], bytes]) -> list[Records]:
        if layout.self_contained:
            return [self.decode(row, layout, read)]
        (path,) = self.paths(row, layout)
        parts = [Records.from_arrays(arrays, path) for arrays in _blocks(unpack(read(path), path), layout, path)]
        check_parts(parts, row, layout, path)
        return parts

    def paths(self, row: ShardPlan, layout: Layout) -> list[str]:
        return [tar_path(row.shard)]

    def run_files(self, layout: Layout, attributes: dict[str, Any]) -> dict[str, bytes]:
        return {}


def _key(tuple_id: int) -> str:
    return f"{tuple_id:0{_KEY_DIGITS}d}"


def _encode_blocks(records: Records, layout: Layout) -> list[tuple[str, bytes]]:
    names = list(columns(layout))
    members = []
    for start in range(0, len(records), BLOCK):
        arrays = records.slice(start, min(start + BLOCK, len(records))).to_arrays()
        key = _key(int(arrays["tuple_id"][0]))
        members += [(f"{key}.{name}.npy", to_npy(arrays[name])) for name in names]
    return members


def _decode_blocks(members: list[tuple[str, memoryview]], layout: Layout, where: str) -> dict[str, np.ndarray]:
    blocks = _blocks(members, layout, where)
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _blocks(members: list[tuple[str, memoryview]], layout: Layout, where: str) -> list[dict[str, np.ndarray]]:
    """The columns of each sample, views of the file's bytes; at least one."""
    expected = columns(layout)
    blocks = []
    for key, contents in _samples(members, [f"{name}.npy" for name in expected], where):
        blocks.append({})
        for (name, column), content in zip(expected.items(), contents, strict=True):
            array = from_npy(content, f"{where}: {key}.{name}")
            if array.dtype != column.dtype or array.shape[1:] != column.tail or array.ndim == 0:
                raise ShardError(f"{where}: {key}.{name} is {array.dtype} {array.shape}: it belongs to another run")
            blocks[-1][name] = array
    return blocks


def _image_members(layout: Layout) -> dict[str, str]:
    """Member of a self-contained sample -> column; a member holds one row of its column."""
    members = {"z.npy": "z", "x.npy": "x", "mean.npy": "mean.dense"}
    return members | ({"mean_next.npy": "mean_next.dense"} if layout.has_next else {})


def _encode_samples(records: Records, layout: Layout) -> list[tuple[str, bytes]]:
    arrays = records.to_arrays()
    numbers = {name: arrays[name].tolist() for name in number_columns(layout)}
    members = []
    for row in range(len(records)):
        key = _key(int(records.tuple_id[row]))
        members += [(f"{key}.{name}", to_npy(arrays[c][row])) for name, c in _image_members(layout).items()]
        members.append((f"{key}.json", json.dumps({name: column[row] for name, column in numbers.items()}).encode()))
    return members


def _decode_samples(members: list[tuple[str, memoryview]], layout: Layout, where: str) -> dict[str, np.ndarray]:
    expected = columns(layout)
    images, numbers = _image_members(layout), number_columns(layout)
    samples = _samples(members, [*images, "json"], where)
    out = {name: np.empty((len(samples), *expected[name].tail), expected[name].dtype) for name in images.values()}
    rows = []
    for row, (key, contents) in enumerate(samples):
        for column, content in zip(images.values(), contents, strict=False):
            image = from_npy(content, f"{where}: {key}.{column}")
            if image.dtype != expected[column].dtype or image.shape != expected[column].tail:
                raise ShardError(f"{where}: {key}.{column} is {image.dtype} {image.shape}: it belongs to another run")
            out[column][row] = image
        rows.append(_numbers(contents[-1], list(numbers), f"{where}: {key}.json"))
    for index, column in enumerate(numbers):
        try:
            out[column] = np.array([values[index] for values in rows], expected[column].dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise ShardError(f"{where}: column {column} is damaged") from error
    for target in ("mean", "mean_next") if layout.has_next else ("mean",):
        out[f"{target}.count"] = np.full(len(samples), -1, np.int32)
        out[f"{target}.entry"], out[f"{target}.weight"] = np.empty(0, np.uint32), np.empty(0, np.float32)
    return out


def _numbers(content: memoryview, names: list[str], where: str) -> list[float]:
    try:
        numbers = parse_json(bytes(content))
    except JsonError as error:
        raise ShardError(f"{where}: not JSON") from error
    if not isinstance(numbers, dict) or list(numbers) != names:
        raise ShardError(f"{where}: expected the keys {', '.join(names)}")
    if not all(type(value) in (int, float) for value in numbers.values()):
        raise ShardError(f"{where}: a value is not a number")
    return list(numbers.values())


def _samples(
    members: list[tuple[str, memoryview]], suffixes: list[str], where: str
) -> list[tuple[str, list[memoryview]]]:
    """Members by sample: (key, contents in the order of `suffixes`); ShardError for any other members."""
    samples = []
    for start in range(0, len(members), len(suffixes)):
        group = members[start : start + len(suffixes)]
        key = group[0][0].partition(".")[0]
        for (name, _), suffix in zip(group, suffixes, strict=False):
            if name != f"{key}.{suffix}":
                raise ShardError(
                    f"{where}: member {name!r} where {key}.{suffix} is due: it was not written by postmean"
                )
        if len(group) < len(suffixes):
            raise ShardError(f"{where}: sample {key} lacks {suffixes[len(group)]}")
        samples.append((key, [content for _, content in group]))
    if not samples:
        raise ShardError(f"{where}: no records in it")
    return samples
