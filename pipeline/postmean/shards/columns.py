"""The columns of a shard: names, dtypes and shapes, and the check that records have exactly these."""

from typing import NamedTuple

import numpy as np

from postmean.base.errors import ShardError
from postmean.contract.plan import ShardPlan
from postmean.contract.records import Records
from postmean.shards.codec import Layout


class Column(NamedTuple):
    """One array of `Records.to_arrays`; its first axis runs over records, pairs or dense means."""

    dtype: np.dtype
    tail: tuple[int, ...]
    """Shape without the first axis."""


def columns(layout: Layout) -> dict[str, Column]:
    """The columns of `Records.to_arrays` in a run of this layout, in the order in which they are written."""
    image = layout.image_shape
    expected = {
        "tuple_id": _column(np.int64),
        "sigma": _column(np.float32),
        **({"sigma_next": _column(np.float32)} if layout.has_sigma_next else {}),
        **({"label": _column(np.int64)} if layout.labels else {}),
        "ess": _column(np.float32),
        "top_weight": _column(np.float32),
        "variance": _column(np.float32),
        "tail_mass": _column(np.float32),
        "support_size": _column(np.int32),
    }
    for target in ("mean", "mean_next") if layout.has_next else ("mean",):
        expected[f"{target}.count"] = _column(np.int32)
        expected[f"{target}.entry"] = _column(np.uint32)
        expected[f"{target}.weight"] = _column(np.float32)
        expected[f"{target}.dense"] = _column(np.float16, image)
    if layout.self_contained:
        expected["z"] = _column(np.float32, image)
        expected["x"] = _column(np.uint8, image)
    return expected


def number_columns(layout: Layout) -> tuple[str, ...]:
    """The columns with one number for each record that do not belong to a mean."""
    return tuple(name for name, column in columns(layout).items() if not column.tail and "." not in name)


def check_records(records: Records, row: ShardPlan, layout: Layout, where: str) -> None:
    """Raise ShardError unless the records have the run's columns and the plan assigns them to this shard."""
    arrays = records.to_arrays()
    expected = columns(layout)
    if arrays.keys() != expected.keys():
        odd = ", ".join(sorted(arrays.keys() ^ expected.keys()))
        raise ShardError(f"{where}: columns missing or too many ({odd}): it belongs to a run of other settings")
    for name, column in expected.items():
        array = arrays[name]
        if array.dtype != column.dtype or array.shape[1:] != column.tail:
            raise ShardError(
                f"{where}: column {name} is {array.dtype} {array.shape[1:]}, expected {column.dtype} {column.tail}: "
                "it belongs to a run of other settings"
            )
    ids = records.tuple_id
    if (
        not 0 < len(ids) == row.records
        or ids[0] != row.first_tuple
        or ids[-1] != row.last_tuple
        or (np.diff(ids) <= 0).any()
    ):
        raise ShardError(f"{where}: its tuples are not those of the plan: it belongs to another run")
    most = -1 if layout.self_contained else layout.max_support
    for target in (records.mean, records.mean_next):
        if target is not None and (target.count.min() < -1 or target.count.max() > most):
            raise ShardError(f"{where}: a mean has {target.count.max()} pairs, expected at most {most} (-1: dense)")


def check_parts(parts: list[Records], row: ShardPlan, layout: Layout, where: str) -> None:
    """`check_records` of the records of all parts together."""
    for part in parts:
        if not len(part):
            raise ShardError(f"{where}: a sample without records: it was not written by postmean")
        own = ShardPlan(row.shard, int(part.tuple_id[0]), int(part.tuple_id[-1]), len(part))
        check_records(part, own, layout, where)
    ends = np.array([[part.tuple_id[0], part.tuple_id[-1]] for part in parts]).reshape(-1)
    planned = (row.records, row.first_tuple, row.last_tuple)
    if (sum(map(len, parts)), ends[0], ends[-1]) != planned or (np.diff(ends[1:-1])[::2] <= 0).any():
        raise ShardError(f"{where}: its tuples are not those of the plan: it belongs to another run")


def _column(dtype: type[np.generic], tail: tuple[int, ...] = ()) -> Column:
    return Column(np.dtype(dtype), tail)
