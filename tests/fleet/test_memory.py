"""The memory that is asked for an actor on CPUs."""

from dataclasses import replace

from postmean.engine import pixels
from postmean.runs.memory import memory
from tests.support.settings import manifest

IMAGES = 50_000


def actor(records_per_shard: int, queries: int, shape: tuple[int, ...] = (IMAGES, 3, 32, 32)) -> int:
    plain = manifest()
    shards = replace(plain.shards, records_per_shard=records_per_shard)
    return memory(replace(plain, store_shape=shape, shards=shards), IMAGES, 10, queries, on_gpu=False).actor


def test_a_pass_has_no_more_queries_than_a_shard_has_records():
    assert actor(512, 1024) == actor(512, 512) < actor(1024, 1024)


def test_a_signed_copy_is_counted(monkeypatch):
    copied = actor(512, 512)
    monkeypatch.setattr(pixels, "SIGNED_BYTES", IMAGES * 3072 - 1)
    assert copied - actor(512, 512) == IMAGES * 3072
