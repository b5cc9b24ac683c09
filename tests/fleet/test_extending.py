"""More --tuples extend a run: existing files keep their bytes, and a crash leaves the old run or the new one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from postmean.base.errors import MismatchError
from postmean.base.flags import with_flags
from postmean.contract.image_store import ImageStore
from postmean.contract.plan import Plan
from postmean.contract.settings import ShardFormat
from postmean.engine.process_setup import threads
from postmean.estimators.replica import Replica
from postmean.runs.config import GenerateConfig
from postmean.runs.generate import is_finished
from postmean.runs.job import prepare
from postmean.runs.verify import check_run, judge
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.storage.storage import Storage
from postmean.training.stream.stream import TargetStream
from tests.fleet.conftest import config
from tests.support.runs import files_of, postmean

FIRST, SECOND, THIRD = 500, 700, 1000
UNCHANGED = ("shards/", "commits/", "targets.zarr/", "certified_sigma")


class Killed(BaseException):
    """The process died."""


def generate_by_hand(settings: GenerateConfig, shards: int | None = None) -> RunFolder:
    """Do what generate does, in this process: prepare, begin or extend, write missing shards (at most `shards`)."""
    run = RunFolder(open_storage(settings.out))
    job = prepare(settings, run)
    if not run.has_manifest() or run.read_manifest() != job.manifest:
        job.begin(run)
    with threads(1):
        replica = Replica(job.manifest, job.store, job.certified_sigma)
        for shard in np.flatnonzero(run.committed() == 0)[:shards].tolist():
            run.commit_shard(job.plan[shard], replica.records(job.plan[shard]))
    return RunFolder(open_storage(settings.out))


@pytest.fixture(params=["webdataset", "zarr"])
def format(request: pytest.FixtureRequest) -> ShardFormat:
    return request.param


def small(store: ImageStore, out: Path, format: ShardFormat) -> GenerateConfig:
    """The first part of the run: some five shards."""
    return with_flags(config(store.path, out, format), tuples=FIRST, records_per_shard=64)


@pytest.fixture
def settings(store: ImageStore, tmp_path: Path, format: ShardFormat) -> GenerateConfig:
    return small(store, tmp_path / "run", format)


def kept(out: str) -> dict[str, tuple[bytes, int]]:
    """Bytes of the files that an extension must not change, and the modification times of shards."""
    files = {path: data for path, data in files_of(out).items() if path.startswith(UNCHANGED)}
    chunks = {path for path in files if not path.endswith("zarr.json") and not path.startswith("certified")}
    return {path: (files[path], (Path(out) / path).stat().st_mtime_ns if path in chunks else 0) for path in files}


def rows(run: RunFolder) -> list[tuple[int, int, int]]:
    plan = run.read_plan()
    return list(zip(plan.first_tuple.tolist(), plan.last_tuple.tolist(), plan.records.tolist(), strict=True))


@pytest.mark.parametrize("finished", [True, False])
def test_an_extension_adds_shards_and_changes_none(
    settings: GenerateConfig, store: ImageStore, tmp_path: Path, finished: bool
) -> None:
    run = generate_by_hand(settings, None if finished else 3)
    lengths = [len(rows(run))]
    for tuples in (SECOND, THIRD):
        before, planned = kept(settings.out), rows(run)
        run = generate_by_hand(replace(settings, tuples=tuples))
        after = kept(settings.out)
        assert {path: after[path] for path in before} == before
        assert rows(run)[: len(planned)] == planned
        assert len(rows(run)) > len(planned)
        lengths.append(len(rows(run)))
    manifest = run.read_manifest()
    assert (manifest.tuples, manifest.segments) == (THIRD, (FIRST, SECOND))
    assert len(run.committed()) == lengths[-1] and run.committed().all()
    size = settings.shards.records_per_shard
    short = [shard for shard, (_, _, records) in enumerate(rows(run)) if records != size]
    assert set(short) <= {length - 1 for length in lengths}
    assert len(short) == 3

    # the means equal those of a run made in one go
    whole = replace(settings, out=str(tmp_path / "whole"), tuples=THIRD)
    generate_by_hand(whole)
    streams = [TargetStream.open(out, store, batch_size=500) for out in (settings.out, whole.out)]
    batches = 0
    for ours, theirs in zip(*streams, strict=True):
        assert (ours.tuple_id == theirs.tuple_id).all()
        np.testing.assert_allclose(ours.mean, theirs.mean, atol=2e-3)
        batches += 1
    assert batches == THIRD // 500
    report = check_run(run, store, 12)
    assert judge(report, manifest) == []


def test_resuming_an_extended_run_is_that_run(settings: GenerateConfig) -> None:
    generate_by_hand(settings)
    run = generate_by_hand(replace(settings, tuples=SECOND), 1)
    manifest = run.read_manifest()
    run = generate_by_hand(replace(settings, tuples=SECOND))
    assert run.read_manifest() == manifest
    job = prepare(replace(settings, tuples=SECOND), run)
    assert is_finished(job, run)
    # a plan that was damaged and removed is made again with the same bytes
    plan = run.storage.get("plan.parquet")
    run.storage.delete("plan.parquet")
    assert prepare(replace(settings, tuples=SECOND), RunFolder(run.storage)).plan.to_bytes() == plan


def test_a_run_is_never_shortened(settings: GenerateConfig) -> None:
    generate_by_hand(settings, 1)
    before = files_of(settings.out)
    with pytest.raises(MismatchError, match=f"tuples is {FIRST} there, 64 here: a run is never shortened: pass"):
        prepare(replace(settings, tuples=64), RunFolder(open_storage(settings.out)))
    assert files_of(settings.out) == before


def test_an_extension_of_certified_tuples_alone_has_no_shards(settings: GenerateConfig) -> None:
    job = prepare(settings, None)
    source = job.manifest.tuple_source()
    certified = job.certified_sigma
    assert certified is not None
    block = source.block(0, FIRST)
    is_record = block.sigma > certified[source.image(block.entry)]
    start = next(n for n in range(FIRST - 3) if not is_record[n : n + 3].any())
    generate_by_hand(replace(settings, tuples=start + 1))
    for tuples in (start + 2, start + 3):
        run = generate_by_hand(replace(settings, tuples=tuples))
    assert run.read_manifest().segments == (start + 1, start + 2)
    longer = generate_by_hand(settings)
    assert len(longer.committed()) == len(rows(longer)) and longer.committed().all()


class DyingStorage:
    """A storage whose process dies before a certain write."""

    def __init__(self, storage: Storage, writes: int) -> None:
        self._storage, self._left = storage, writes

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)

    def put(self, path: str, data: bytes) -> None:
        if self._left == 0:
            raise Killed
        self._left -= 1
        self._storage.put(path, data)


def begin_and_die(settings: GenerateConfig, writes: int) -> bool:
    """Begin the run or its extension, and die after `writes` writes; whether it died."""
    run = RunFolder(DyingStorage(open_storage(settings.out), writes))  # type: ignore[arg-type]
    try:
        prepare(settings, run).begin(run)
    except Killed:
        return True
    return False


def test_killed_at_any_write_of_an_extension_the_old_run_is_whole(
    settings: GenerateConfig, store: ImageStore, tmp_path: Path
) -> None:
    old = generate_by_hand(settings)
    before, planned = kept(settings.out), rows(old)
    writes = 0
    while begin_and_die(replace(settings, tuples=SECOND), writes):
        writes += 1
        run = RunFolder(open_storage(settings.out))
        assert (run.read_manifest().tuples, rows(run)) == (FIRST, planned)
        assert run.layout() == old.layout()
        assert len(run.committed()) == len(planned) and run.committed().all()
        if writes % 5 == 3:
            assert is_finished(prepare(settings, run), run)
            assert sum(1 for _ in TargetStream.open(settings.out, store, batch_size=100)) == FIRST // 100
    assert writes >= 3

    # an extension killed between plan and manifest counts as never begun when another one follows
    generate_by_hand(replace(settings, tuples=SECOND))
    assert begin_and_die(replace(settings, tuples=900), 2)
    generate_by_hand(replace(settings, tuples=THIRD))
    assert {path: data for path, data in kept(settings.out).items() if path in before} == before
    undisturbed = replace(settings, out=str(tmp_path / "undisturbed"))
    for tuples in (FIRST, SECOND, THIRD):
        generate_by_hand(replace(undisturbed, tuples=tuples))
    assert files_of(settings.out) == files_of(undisturbed.out)


def test_every_row_of_an_extended_zarr_run_is_a_record(store: ImageStore, tmp_path: Path) -> None:
    settings = small(store, tmp_path, "zarr")
    generate_by_hand(settings)
    run = generate_by_hand(replace(settings, tuples=SECOND))
    groups = [zarr.open_group(tmp_path / name, mode="r") for name in ("targets.zarr", "targets-0001.zarr")]
    found = np.concatenate([np.asarray(group["tuple_id"][:]) for group in groups])  # type: ignore[index]
    expected = np.concatenate([run.read_shard(shard).tuple_id for shard in range(len(rows(run)))])
    np.testing.assert_array_equal(found, expected)
    for group in groups:
        assert len({array.shape[0] for _, array in group.arrays()}) == 1


def test_a_stream_opened_before_an_extension_stays_and_one_opened_after_it_is_longer(
    settings: GenerateConfig, store: ImageStore
) -> None:
    generate_by_hand(settings)
    early = TargetStream.open(settings.out, store, batch_size=100)
    generate_by_hand(replace(settings, tuples=SECOND))
    late = TargetStream.open(settings.out, store, batch_size=100, start_tuple=FIRST)
    assert [int(b.tuple_id[0]) for b in early] == list(range(0, FIRST, 100))
    assert [int(b.tuple_id[0]) for b in late] == list(range(FIRST, SECOND, 100))


@pytest.mark.slow
def test_the_command_extends_a_run_with_a_fleet(
    job: list[str], expected: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    files = expected["webdataset"]
    for path, data in files.items():
        open_storage(tmp_path).put(path, data)
    done = postmean(*job, f"--out={tmp_path}", "--tuples=15000", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    shards = sum(path.startswith("commits/") for path in files)
    assert (report["tuples"], report["written"]) == (15_000, report["shards"] - shards)
    found = files_of(tmp_path)
    assert {p: d for p, d in files.items() if p.startswith(UNCHANGED)}.items() <= found.items()
    planned = Plan.from_bytes(files["plan.parquet"], "plan")
    assert Plan.from_bytes(found["plan.parquet"], "plan").until(12_000).to_bytes() == planned.to_bytes()
    assert postmean(*job, f"--out={tmp_path}").returncode == 2
