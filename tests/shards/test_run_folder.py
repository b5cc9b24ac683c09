"""The run folder: what counts as committed, and clear errors for what is missing, damaged or foreign."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from postmean.base.errors import ShardError
from postmean.base.flags import with_flags
from postmean.contract.plan import Plan
from postmean.contract.settings import ShardFormat
from postmean.shards.run_folder import RunFolder
from postmean.shards.run_reader import layout_of
from postmean.storage.open import open_storage
from tests.support.settings import edit_manifest
from tests.support.shard_examples import LAYOUT, MANIFEST, assert_equal, plan_of, records_of

PLAN = plan_of(LAYOUT)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with a manifest and a plan of two shards, none committed."""
    run = RunFolder(open_storage(tmp_path))
    run.begin(MANIFEST, PLAN, None)
    return run


def reopen(run: RunFolder) -> RunFolder:
    return RunFolder(open_storage(run.storage.url))


def test_manifest_plan_and_certificate_read_back(tmp_path: Path) -> None:
    run = RunFolder(open_storage(tmp_path))
    certified_sigma = np.linspace(0, 3, 50, dtype=np.float32)
    assert not run.has_manifest()
    run.begin(with_flags(MANIFEST, certificate=True), PLAN, certified_sigma)
    again = reopen(run)
    assert again.has_manifest()
    assert again.read_manifest() == with_flags(MANIFEST, certificate=True)
    assert again.read_plan().to_bytes() == PLAN.to_bytes()
    np.testing.assert_array_equal(again.read_certified_sigma(), certified_sigma)
    assert again.layout() == layout_of(again.read_manifest(), PLAN) == LAYOUT


@pytest.mark.parametrize("format", ["webdataset", "zarr"])
def test_a_run_begins_with_its_manifest_and_nothing_is_missing_then(tmp_path: Path, format: ShardFormat) -> None:
    """A run killed before its manifest has not begun; the format's metadata is written before the manifest."""
    run = RunFolder(open_storage(tmp_path))
    put, written = run.storage.put, []

    def note(path: str, data: bytes) -> None:
        assert not run.has_manifest()
        put(path, data)
        written.append(path)

    run.storage.put = note  # type: ignore[method-assign]
    run.begin(with_flags(MANIFEST, format=format, certificate=True), PLAN, np.ones(50))
    assert written[0] == "certified_sigma.npy"
    assert (written[1], written[-1]) == ("plan.parquet", "manifest.json")
    assert (tmp_path / "targets.zarr/mean/zarr.json").is_file() == (format == "zarr")


def test_the_progress_of_reading_commit_records_ends_at_their_number(run: RunFolder) -> None:
    told: list[tuple[int, int]] = []
    run.commit_shard(PLAN[0], records_of(LAYOUT, 0))
    run.committed(lambda read, total: told.append((read, total)))
    assert told == [(1, 1)]
    run.commit_shard(PLAN[1], records_of(LAYOUT, 1))
    run.committed(lambda read, total: told.append((read, total)))
    run.committed(lambda read, total: told.append((read, total)))
    assert told == [(1, 1), (1, 1)], "what was read before is not read again"


def test_a_run_without_the_certificate_has_none(run: RunFolder) -> None:
    run.begin(MANIFEST, PLAN, np.ones(50))
    run.begin(MANIFEST, PLAN, None)
    assert reopen(run).read_certified_sigma() is None
    assert not run.storage.exists("certified_sigma.npy")


@pytest.mark.parametrize(
    "damage", [b"", b"PK", b"\x80\x04\x95", pytest.param(None, id="missing"), pytest.param(49, id="too few images")]
)
def test_a_damaged_certificate_is_refused(tmp_path: Path, damage: bytes | int | None) -> None:
    run = RunFolder(open_storage(tmp_path))
    run.begin(with_flags(MANIFEST, certificate=True), PLAN, np.ones(damage) if isinstance(damage, int) else None)
    if isinstance(damage, bytes):
        run.storage.put("certified_sigma.npy", damage)
    with pytest.raises(ShardError, match=r"certified_sigma\.npy"):
        reopen(run).read_certified_sigma()


def test_no_run_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"no run there: make one with `postmean generate`"):
        RunFolder(open_storage(tmp_path / "nothing")).read_manifest()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"schema_version": 99}', '{"schema_version": 1}']
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ShardError, match=r"manifest\.json"):
        RunFolder(open_storage(tmp_path)).read_manifest()


@pytest.mark.parametrize(
    "change",
    [
        {"records_per_shard": 0},
        {"records_per_shard": "24"},
        {"max_support": -1},
        {"store_shape": [50, 3, 4]},
        {"store_shape": [50, 3, 4, -5]},
        {"store_shape": [50, 3, 4, None]},
    ],
)
def test_a_manifest_of_impossible_sizes_is_refused(run: RunFolder, change: dict) -> None:
    edit_manifest(run.storage, **change)
    with pytest.raises(ShardError, match=r"manifest\.json"):
        reopen(run).layout()


def test_a_truncated_or_flipped_plan_is_refused_or_reads_the_same(run: RunFolder) -> None:
    data = run.storage.get("plan.parquet")
    rng = np.random.default_rng(0)
    for cut in [0, 1, 4, len(data) - 1, *rng.integers(0, len(data), 20)]:
        run.storage.put("plan.parquet", data[:cut])
        with pytest.raises(ShardError, match=r"plan\.parquet"):
            reopen(run).read_plan()
    for place in rng.integers(0, len(data), 200):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        run.storage.put("plan.parquet", bytes(damaged))
        with suppress(ShardError):
            assert reopen(run).read_plan().to_bytes() == data


@pytest.mark.parametrize(
    ("first", "last", "records"),
    [
        ([0, 5], [4, 9], [5, 0]),
        ([0, 5], [4, 9], [5, 6]),
        ([0, 4], [4, 9], [5, 5]),
        ([5, 0], [9, 4], [5, 5]),
        ([-1, 5], [4, 9], [5, 5]),
    ],
)
def test_a_plan_whose_tuples_are_not_in_order_is_refused(
    run: RunFolder, first: list[int], last: list[int], records: list[int]
) -> None:
    run.begin(MANIFEST, Plan(np.array(first), np.array(last), np.array(records)), None)
    with pytest.raises(ShardError, match="not in order"):
        reopen(run).read_plan()


def test_a_shard_exists_once_its_commit_record_does(run: RunFolder) -> None:
    assert run.committed().tolist() == [0, 0]
    with pytest.raises(ShardError, match=r"commits/000000\.json: missing"):
        run.read_shard(0)
    records = records_of(LAYOUT, 0)
    size = run.commit_shard(PLAN[0], records).size
    assert run.committed().tolist() == reopen(run).committed().tolist() == [size, 0]
    run.storage.delete("commits/000000.json")
    assert run.committed().tolist() == reopen(run).committed().tolist() == [0, 0]
    run.commit_shard(PLAN[1], records_of(LAYOUT, 1))
    run.commit_shard(PLAN[0], records)
    assert run.committed().all()
    assert_equal(reopen(run).read_shard(0), records)


def test_a_crash_before_the_commit_record_leaves_no_shard(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    put = run.storage.put

    def die_at_commit(path: str, data: bytes) -> None:
        if path.startswith("commits/"):
            raise KeyboardInterrupt
        put(path, data)

    monkeypatch.setattr(run.storage, "put", die_at_commit)
    with pytest.raises(KeyboardInterrupt):
        run.commit_shard(PLAN[0], records_of(LAYOUT, 0))
    assert run.storage.exists("shards/000000.tar")
    assert reopen(run).committed().tolist() == [0, 0]


def test_committing_twice_gives_the_same_bytes(run: RunFolder) -> None:
    first = run.commit_shard(PLAN[0], records_of(LAYOUT, 0))
    before = {path: run.storage.get(path) for path in run.storage.list("")}
    assert run.commit_shard(PLAN[0], records_of(LAYOUT, 0)) == first
    assert {path: run.storage.get(path) for path in run.storage.list("")} == before


def test_statistics_are_means_over_the_records(run: RunFolder) -> None:
    records = records_of(LAYOUT, 0)
    statistics = run.commit_shard(PLAN[0], records).statistics
    assert statistics["ess"] == pytest.approx(records.ess.mean())
    assert statistics["support_size"] == pytest.approx(records.support_size.mean())
    assert statistics["sparse_share"] == pytest.approx((records.mean.count >= 0).mean())
    size = (Path(run.storage.url) / "shards/000000.tar").stat().st_size
    assert statistics["bytes_per_record"] == pytest.approx(size / len(records))


@pytest.mark.parametrize(
    "change",
    [
        {"shard": 1},
        {"first_tuple": 0},
        {"records": 23},
        {"files": []},
        {"files": [{"path": "/etc/passwd", "size": 1, "sha256": ""}]},
        {"files": [{"path": "../manifest.json", "size": 1, "sha256": ""}]},
        {"files": [{"path": ["a"], "size": 1, "sha256": ""}]},
        {"files": [{"path": "shards/000000.tar", "size": "1", "sha256": 1}]},
        {"files": None},
        {"extra": 1},
    ],
)
def test_a_commit_record_that_was_edited_is_refused(run: RunFolder, change: dict) -> None:
    run.commit_shard(PLAN[0], records_of(LAYOUT, 0))
    plain = json.loads(run.storage.get("commits/000000.json")) | change
    run.storage.put("commits/000000.json", json.dumps(plain).encode())
    with pytest.raises(ShardError, match="generate"):
        reopen(run).read_shard(0)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"files": [[[]]]}'])
def test_a_truncated_commit_record_is_no_commit(run: RunFolder, text: str) -> None:
    run.commit_shard(PLAN[1], records_of(LAYOUT, 1))
    run.storage.put("commits/000000.json", text.encode())
    assert (reopen(run).committed() > 0).tolist() == [False, True]
    with pytest.raises(ShardError, match="000000"):
        reopen(run).read_shard(0)


def test_foreign_files_among_the_commits_are_left_alone(run: RunFolder) -> None:
    run.commit_shard(PLAN[0], records_of(LAYOUT, 0))
    data = run.storage.get("commits/000000.json")
    for name in (
        "000001.json",
        "0000000.json",
        "000009.json",
        "x.json",
        "000000.json.bak",
        "sub/000000.json",
        "٠٠٠٠٠١.json",
    ):
        run.storage.put(f"commits/{name}", data)
    assert (reopen(run).committed() > 0).tolist() == [True, False]


def test_a_shard_outside_of_the_plan_is_refused(run: RunFolder) -> None:
    for shard in (-1, 2):
        with pytest.raises(ShardError, match=r"the plan has 0\.\.1"):
            run.read_shard(shard)
