"""Random runs and records for the tests of shards, of every shape that a codec must take."""

import numpy as np

from postmean.base.flags import with_flags
from postmean.contract.manifest import Manifest
from postmean.contract.noise import ICTNoise, LogNormalNoise
from postmean.contract.plan import Plan
from postmean.contract.records import QUALITY_COLUMNS, Means, Records
from postmean.shards.codec import Layout
from tests.support.settings import manifest

LAYOUT = Layout(
    image_shape=(3, 4, 5),
    records_per_shard=24,
    total_records=40,
    max_support=6,
    has_next=False,
    self_contained=False,
    labels=True,
)

MANIFEST = manifest(code_version="0")


def manifest_of(layout: Layout, codec_name: str) -> Manifest:
    """A manifest whose run has this layout."""
    return with_flags(
        MANIFEST,
        format=codec_name,  # type: ignore[arg-type]
        store_shape=(50, *layout.image_shape),
        records_per_shard=layout.records_per_shard,
        max_support=layout.max_support,
        solver="heun" if layout.has_next else "euler",
        self_contained=layout.self_contained,
        classes=10 if layout.labels else 0,
        noise=ICTNoise() if layout.has_sigma_next or layout.has_next else LogNormalNoise(),
        segments=tuple(int(tuple_ids(layout, 0)[end]) for end in np.cumsum(layout.earlier_segments, dtype=int)),
    )


def plan_of(layout: Layout, seed: int = 0) -> Plan:
    """A plan whose tuple ids have gaps, as those of uncertified tuples do."""
    ids = tuple_ids(layout, seed)
    spans = [_span(layout, shard) for shard in range(sum(segment.shards for segment in layout.segments))]
    first, stop = np.array(spans, int).reshape(-1, 2).T
    return Plan(ids[first], ids[stop - 1], stop - first)


def _span(layout: Layout, shard: int) -> tuple[int, int]:
    """Number of the shard's first record, and one past that of its last."""
    before = 0
    for segment in layout.segments:
        if shard < segment.first_shard + segment.shards:
            start = before + (shard - segment.first_shard) * layout.records_per_shard
            return start, min(start + layout.records_per_shard, before + segment.records)
        before += segment.records
    raise IndexError(shard)


def tuple_ids(layout: Layout, seed: int) -> np.ndarray:
    """Ids of all records of the run."""
    return np.cumsum(np.random.default_rng(seed).integers(1, 10, layout.total_records)) + 10**9


def records_of(layout: Layout, shard: int, seed: int = 0, sparse_share: float = 0.7) -> Records:
    """Random records of one shard of `plan_of(layout, seed)`."""
    ids = tuple_ids(layout, seed)[slice(*_span(layout, shard))]
    rng = np.random.default_rng([seed, shard])
    count = len(ids)
    plain = {}
    if layout.self_contained:
        plain["z"] = rng.standard_normal((count, *layout.image_shape), np.float32)
        plain["x"] = rng.integers(0, 256, (count, *layout.image_shape), np.uint8)
    return Records(
        tuple_id=ids,
        sigma=rng.random(count, np.float32),
        sigma_next=rng.random(count, np.float32) if layout.has_sigma_next else None,
        label=rng.integers(0, 10, count) if layout.labels else None,
        mean=_means(rng, count, layout, sparse_share),
        mean_next=_means(rng, count, layout, sparse_share) if layout.has_next else None,
        ess=1 + 100 * rng.random(count, np.float32),
        top_weight=rng.random(count, np.float32),
        variance=rng.random(count, np.float32) ** 9,
        tail_mass=np.zeros(count, np.float32),
        support_size=rng.integers(0, 50_000, count, np.int32),
        plain=plain,
    )


def _means(rng: np.random.Generator, records: int, layout: Layout, sparse_share: float) -> Means:
    is_sparse = np.full(records, False) if layout.self_contained else rng.random(records) < sparse_share
    count = np.where(is_sparse, rng.integers(0, layout.max_support + 1, records), -1).astype(np.int32)
    pairs, dense = int(np.maximum(count, 0).sum()), int((count < 0).sum())
    return Means(
        count,
        rng.integers(0, 2**32, pairs, np.uint32),
        rng.random(pairs, np.float32),
        rng.standard_normal((dense, *layout.image_shape)).astype(np.float16),
    )


def assert_equal(found: Records, expected: Records) -> None:
    """Every column equal, to the bit."""
    ours, theirs = found.to_arrays(), expected.to_arrays()
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape), name
        assert ours[name].tobytes() == array.tobytes(), name


def concatenate_means(parts: list[Means]) -> Means:
    """One after the other; at least one part."""
    return Means(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("count", "entry", "weight", "dense")))


def concatenate_records(parts: list[Records]) -> Records:
    """One after the other; at least one part."""
    nexts = [p.mean_next for p in parts if p.mean_next is not None]

    def joined(name: str) -> np.ndarray | None:
        columns = [getattr(p, name) for p in parts]
        return None if columns[0] is None else np.concatenate(columns)

    return Records(
        tuple_id=np.concatenate([p.tuple_id for p in parts]),
        sigma=np.concatenate([p.sigma for p in parts]),
        sigma_next=joined("sigma_next"),
        label=joined("label"),
        mean=concatenate_means([p.mean for p in parts]),
        mean_next=concatenate_means(nexts) if nexts else None,
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in QUALITY_COLUMNS},
        plain={name: np.concatenate([p.plain[name] for p in parts]) for name in parts[0].plain},
    )
