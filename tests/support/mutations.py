"""Random damage: what a disk, a network, a killed copy or an editor does to a file."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from postmean.base.json_files import to_sealed_json

_JUNK = [
    None,
    True,
    -1,
    0,
    1,
    3,
    2**31,
    2**63,
    10**30,
    0.5,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x",
    "\ud800",
    [],
    {},
]


def flip(data: bytes, random: Random) -> bytes:
    """One bit is another."""
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


def truncate(data: bytes, random: Random) -> bytes:
    """The end is missing."""
    return data[: random.randrange(len(data))]


def extend(data: bytes, random: Random) -> bytes:
    """Something follows the end."""
    return data + random.choice([b"\0", b"\n", b"}", data[:100], random.randbytes(600)])


def zero(data: bytes, random: Random) -> bytes:
    """A block is zero."""
    start, stop = _block(data, random)
    return data[:start] + bytes(stop - start) + data[stop:]


def scramble(data: bytes, random: Random) -> bytes:
    """A block is something else."""
    start, stop = _block(data, random)
    return data[:start] + random.randbytes(stop - start) + data[stop:]


def duplicate(data: bytes, random: Random) -> bytes:
    """A block is there twice."""
    start, stop = _block(data, random)
    return data[:stop] + data[start:stop] + data[stop:]


def overwrite(data: bytes, random: Random) -> bytes:
    """A block lies over another one."""
    start, stop = _block(data, random)
    place = random.randrange(len(data) - (stop - start) + 1)
    return data[:place] + data[start:stop] + data[place + stop - start :]


def cut(data: bytes, random: Random) -> bytes:
    """A block is missing."""
    start, stop = _block(data, random)
    return data[:start] + data[stop:]


def swap_values(data: bytes, random: Random) -> bytes:
    """Two values of a JSON file are exchanged."""
    plain = json.loads(data)
    a, b = random.sample(list(_places(plain)), 2)
    a[0][a[1]], b[0][b[1]] = b[0][b[1]], a[0][a[1]]
    return _dump(plain)


def change_value(data: bytes, random: Random) -> bytes:
    """A value of a JSON file is another."""
    return _dump(_changed(json.loads(data), random))


def change_and_seal(data: bytes, random: Random) -> bytes:
    """A value of a sealed JSON file is another, and the seal is right: no accident, but someone's doing."""
    plain = json.loads(data)
    del plain["sha256"]
    return to_sealed_json(_changed(plain, random))


ANY_FILE: list[Callable[[bytes, Random], bytes]] = [
    flip,
    flip,
    truncate,
    extend,
    zero,
    scramble,
    duplicate,
    overwrite,
    cut,
]
JSON_FILE = [*ANY_FILE, *[swap_values, change_value] * 4]


def damage(name: str, data: bytes, random: Random) -> bytes:
    """The file after some accident; other bytes than before.

    Args:
        name: of the file.
    """
    while True:
        damaged = random.choice(JSON_FILE if name.endswith(".json") else ANY_FILE)(data, random)
        if damaged != data:
            return damaged


def _block(data: bytes, random: Random) -> tuple[int, int]:
    size = random.choice([1, 4, 16, 64, 512, 4096])
    start = random.randrange(len(data))
    return start, min(start + size, len(data))


def _places(plain: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in a JSON tree as (container, key)."""
    for key in plain if isinstance(plain, dict) else range(len(plain)):
        yield plain, key
        if isinstance(plain[key], dict | list):
            yield from _places(plain[key])


def _changed(plain: Any, random: Random) -> Any:
    parent, key = random.choice(list(_places(plain)))
    value = parent[key]
    if type(value) in (int, float) and random.random() < 0.6:
        parent[key] = random.choice([value + 1, value - 1, 10 * value, -value])
    elif random.random() < 0.8:
        parent[key] = random.choice(_JUNK)
    elif isinstance(parent, dict):
        del parent[key]
    return plain


def _dump(plain: Any) -> bytes:
    return json.dumps(plain, indent=1).encode()
