"""The JSON reader returns what was written; any other bytes raise the same kind of error."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postmean.base.json_files import JsonError, parse_json, read_json, to_json, to_sealed_json, unsealed


@dataclass(frozen=True, kw_only=True)
class Example:
    """One field of each kind."""

    name: str
    size: int
    seconds: float
    parts: tuple[int, ...] = ()
    note: str | None = None

    def __post_init__(self) -> None:
        if self.size > 10**6:
            raise ValueError("too large")


EXAMPLE = Example(name="σ", size=3, seconds=0.5, parts=(1, 2))


def test_a_file_is_indented_and_ends_with_a_newline() -> None:
    assert to_json({"shards": 3}) == b'{\n "shards": 3\n}\n'


@given(
    st.builds(
        Example,
        name=st.text(),
        size=st.integers(max_value=10**6),
        seconds=st.floats(allow_nan=False),
        parts=st.lists(st.integers(), max_size=3).map(tuple),
        note=st.none() | st.text(),
    )
)
def test_what_was_written_is_read(example: Example) -> None:
    assert read_json(Example, to_json(example), "here") == example


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b"\xff\xfe\xfd",
        b"[" * 100_000,
        b'{"name": ' * 100_000,
        b'{"name": "a", "size": 1}',
        b'{"name": "a", "size": 1, "seconds": 1, "other": 2}',
        b'{"name": 1, "size": 1, "seconds": 1}',
        b'{"name": "a", "size": true, "seconds": 1}',
        b'{"name": "a", "size": 1e2, "seconds": 1}',
        b'{"name": "a", "size": 10000000, "seconds": 1}',
        b'{"name": "a", "size": 1, "seconds": 1, "parts": [1, "2"]}',
        b'{"name": "a", "size": 1, "seconds": 1' + b"0" * 400 + b"}",
        b'{"name": "a", "size": 1' + b"0" * 5000 + b', "seconds": 1}',
    ],
)
def test_anything_else_is_a_json_error(data: bytes) -> None:
    with pytest.raises(JsonError):
        read_json(Example, data, "here")


@given(st.binary(max_size=20))
def test_random_bytes_are_read_or_are_a_json_error(data: bytes) -> None:
    with suppress(JsonError):
        parse_json(data)


def test_errors_say_where_and_what() -> None:
    with pytest.raises(JsonError, match=r"^here: missing seconds: it was written by another version"):
        read_json(Example, b'{"name": "a", "size": 1}', "here")
    with pytest.raises(JsonError, match=r"^Expecting value: line 1 column 1"):
        read_json(Example, b"", "here")


@given(st.integers(0, len(to_json(EXAMPLE)) - 2))
def test_a_file_cut_anywhere_is_a_json_error(length: int) -> None:
    with pytest.raises(JsonError):
        read_json(Example, to_json(EXAMPLE)[:length], "here")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda name: name != "sha256"), VALUES, max_size=4))
def test_a_sealed_file_gives_back_what_was_sealed(plain: dict[str, Any]) -> None:
    assert unsealed(parse_json(to_sealed_json(plain))) == plain
    rewritten = json.dumps(dict(reversed(json.loads(to_sealed_json(plain)).items())))
    assert unsealed(parse_json(rewritten.encode())) == plain, "white space and order do not matter"


@given(st.data())
def test_a_sealed_file_with_another_value_is_refused(data: st.DataObject) -> None:
    plain = data.draw(st.dictionaries(st.text().filter(lambda name: name != "sha256"), VALUES, min_size=1, max_size=4))
    name, value = data.draw(st.sampled_from(sorted(plain))), data.draw(VALUES)
    sealed = json.loads(to_sealed_json(plain))
    if json.dumps(sealed[name], sort_keys=True) != json.dumps(value, sort_keys=True):
        with pytest.raises(JsonError, match="sha256"):
            unsealed(sealed | {name: value})


@pytest.mark.parametrize("plain", [None, [], 3, {}, {"shards": 3}, {"sha256": None}, {"shards": 3, "sha256": "0" * 64}])
def test_an_unsealed_file_is_refused(plain: object) -> None:
    with pytest.raises(JsonError, match="sha256"):
        unsealed(plain)
