"""The WebDataset codec: allowed members; foreign or hostile members are refused unread."""

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from postmean.base.errors import ShardError
from postmean.shards.codec import Layout
from postmean.shards.npy import to_npy
from postmean.shards.tar import pack, unpack
from postmean.shards.webdataset_codec import BLOCK, WebDatasetCodec
from tests.support.shard_examples import LAYOUT, plan_of, records_of

PLAIN, SELF_CONTAINED = LAYOUT, replace(LAYOUT, self_contained=True)
PATH = "shards/000000.tar"
Members = list[tuple[str, bytes]]


def members_of(layout: Layout) -> Members:
    data = WebDatasetCodec().encode(records_of(layout, 0), plan_of(layout)[0], layout)[PATH]
    return [(name, bytes(content)) for name, content in unpack(data, PATH)]


def refused(layout: Layout, members: Members) -> str:
    with pytest.raises(ShardError) as error:
        WebDatasetCodec().decode(plan_of(layout)[0], layout, lambda _: pack(members))
    return str(error.value)


class Bomb:
    """Touches a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return (self.path.touch, ())


def test_a_plain_sample_is_a_block_of_records_named_by_its_first_tuple() -> None:
    layout = replace(PLAIN, records_per_shard=2 * BLOCK + 1, total_records=2 * BLOCK + 1)
    ids = records_of(layout, 0).tuple_id
    samples = {name.partition(".")[0] for name, _ in members_of(layout)}
    assert samples == {f"{n:015d}" for n in ids[::BLOCK]}
    assert len(members_of(layout)) == 3 * 12


def test_a_self_contained_sample_is_one_record() -> None:
    names = [name for name, _ in members_of(SELF_CONTAINED)]
    key = f"{records_of(SELF_CONTAINED, 0).tuple_id[0]:015d}"
    assert names[:4] == [f"{key}.z.npy", f"{key}.x.npy", f"{key}.mean.npy", f"{key}.json"]
    assert len(names) == 4 * LAYOUT.records_per_shard


@pytest.mark.parametrize("layout", [PLAIN, SELF_CONTAINED], ids=["plain", "self-contained"])
def test_pickles_are_refused_and_not_opened(layout: Layout, tmp_path: Path) -> None:
    sink = io.BytesIO()
    np.save(sink, np.array([Bomb(tmp_path / "exploded")], dtype=object), allow_pickle=True)
    payload = pickle.dumps(Bomb(tmp_path / "exploded"))
    members = members_of(layout)
    for place in range(min(6, len(members))):
        name = members[place][0]
        refused(layout, [*members[:place], (name, sink.getvalue()), *members[place + 1 :]])
        refused(layout, [*members[:place], (name, payload), *members[place + 1 :]])
        for extra in ("pkl", "pickle", "pyd", "pth"):
            message = refused(layout, [*members[:place], (f"{name[:15]}.{extra}", payload), *members[place:]])
            assert extra in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", [PLAIN, SELF_CONTAINED], ids=["plain", "self-contained"])
def test_members_missing_moved_or_too_many_are_refused(layout: Layout) -> None:
    members = members_of(layout)
    refused(layout, [])
    refused(layout, members[:-1])
    refused(layout, members[1:])
    refused(layout, [members[1], members[0], *members[2:]])
    refused(layout, members + members)
    refused(layout, [("../../x.tuple_id.npy", members[0][1]), *members[1:]])


@pytest.mark.parametrize(
    ("column", "array"),
    [
        ("mean.count", np.full(24, 2**31 - 1, np.int32)),
        ("mean.count", np.full(24, -(2**31), np.int32)),
        ("mean.count", np.int32(0)),
        ("tuple_id", np.zeros(24, np.int64)),
        ("tuple_id", np.zeros(24, np.float64)),
        ("ess", np.zeros(23, np.float32)),
        ("mean.dense", np.zeros((1, 3, 4, 4), np.float16)),
        ("mean.entry", np.zeros(0, np.uint32)),
    ],
)
def test_columns_that_contradict_each_other_are_refused(column: str, array: np.ndarray) -> None:
    members = members_of(PLAIN)
    (place,) = [i for i, (name, _) in enumerate(members) if name.endswith(f".{column}.npy")]
    refused(PLAIN, [*members[:place], (members[place][0], to_npy(np.asarray(array))), *members[place + 1 :]])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"tuple_id": 1}',
        "tuple_id as text",
        "tuple_id too large",
        "label as a fraction of text",
        "support size infinite",
    ],
)
def test_a_sample_with_other_numbers_is_refused(text: str) -> None:
    members = members_of(SELF_CONTAINED)
    numbers = json.loads(members[3][1])
    changed = {
        "tuple_id as text": numbers | {"tuple_id": "1"},
        "tuple_id too large": numbers | {"tuple_id": 10**40},
        "label as a fraction of text": numbers | {"label": ["1"]},
        "support size infinite": numbers | {"support_size": float("inf")},
    }
    content = json.dumps(changed[text]) if text in changed else text
    refused(SELF_CONTAINED, [*members[:3], (members[3][0], content.encode()), *members[4:]])
