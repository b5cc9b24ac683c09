"""Records as an Arrow table with one row a record: the schema of `postmean export --format parquet`."""

import json

import numpy as np
import pyarrow as pa

from postmean.contract.manifest import Manifest
from postmean.contract.records import Means, Records
from postmean.shards.card import attributes
from postmean.shards.codec import Layout
from postmean.shards.columns import number_columns


def to_table(records: Records, layout: Layout, manifest: Manifest) -> pa.Table:
    """The records as rows.

    Columns: the numbers of a record (`number_columns`); for mean, and mean_next with heun, `mean_count` int32, the
    number of pairs or -1 where the mean is dense, `mean_entry` uint32 and `mean_weight` float32, both of that length,
    and `mean` float16 [C H W] in C order. Lists that a record has no use for are empty, not null: some readers fail at
    nulls in lists. A self-contained run has `mean` alone, and `z` float32 and `x` uint8, [C H W] each.
    The schema's metadata has a JSON object `postmean`: the run's attributes and `image_shape`, [C, H, W].
    """
    arrays = {name: pa.array(getattr(records, name)) for name in number_columns(layout)}
    for target in ("mean", "mean_next") if layout.has_next else ("mean",):
        means: Means = getattr(records, target)
        if layout.self_contained:
            arrays[target] = _images(means.dense)
            continue
        arrays[f"{target}_count"] = pa.array(means.count)
        for name in ("entry", "weight"):
            arrays[f"{target}_{name}"] = _lists(np.maximum(means.count, 0), getattr(means, name))
        values = int(np.prod(layout.image_shape))
        arrays[target] = _lists(np.where(means.count < 0, values, 0), means.dense.reshape(-1))
    arrays |= {name: _images(images) for name, images in records.plain.items()}
    about = attributes(manifest) | {"image_shape": list(layout.image_shape)}
    return pa.table(arrays).replace_schema_metadata({"postmean": json.dumps(about, sort_keys=True)})


def _images(images: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), int(np.prod(images.shape[1:])))


def _lists(lengths: np.ndarray, values: np.ndarray) -> pa.Array:
    """The values cut into lists of these lengths; 64-bit offsets, as a shard may have 2^31 values."""
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
