"""The stream gives the right targets of the right tuples at every batch size, rank, restart and storage form."""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from postmean.base.errors import ConfigError, MismatchError, ShardError
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.noise import ECTNoise, ICTNoise, LogitNormalTimeNoise, LogNormalNoise
from postmean.contract.process import FlowMatchingProcess, VPProcess
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.training.stream.stream import TargetStream
from tests.support.exact_runs import commit_exact_shard, entries_of, exact_targets, make_run
from tests.support.stores import digits_store

TUPLES = 600
Run = tuple[Path, Manifest, dict[str, Any]]
"""Folder, manifest and exact targets of a run."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stream")


@pytest.fixture(scope="module")
def store(folder: Path) -> ImageStore:
    return digits_store(folder / "store", 200)


@pytest.fixture(scope="module")
def certified_sigma(store: ImageStore) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 0.25, len(store)).astype(np.float32)


@pytest.fixture(scope="module")
def run(folder: Path, store: ImageStore, certified_sigma: np.ndarray) -> Run:
    manifest = make_run(folder / "run", store, TUPLES, certified_sigma, records_per_shard=37)
    source = manifest.tuple_source()
    return folder / "run", manifest, exact_targets(store, manifest, source, 0, TUPLES)


def test_stream_gives_exact_targets_and_the_canonical_z(run: Run, store: ImageStore) -> None:
    path, manifest, exact = run
    seen = 0
    for batch in TargetStream.open(path, store, 50, recipe=manifest.recipe):
        rows = slice(seen, seen + 50)
        assert batch.tuple_id.tolist() == list(range(seen, seen + 50))
        # dense means are rounded to float16, certified ones are x: both far below the spread of the digits
        np.testing.assert_allclose(batch.mean.flatten(1), exact["mean"][rows], atol=2e-3)
        np.testing.assert_allclose(batch.z.flatten(1), exact["z"][rows], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(batch.x.flatten(1), exact["x"][rows], atol=1e-6)
        assert torch.equal(batch.z, batch.x + batch.sigma[:, None, None, None] * batch.eps)
        assert torch.equal(batch.mean[batch.certified], batch.x[batch.certified])
        assert batch.sigma_next is None and batch.mean_next is None
        np.testing.assert_array_equal(batch.label, store.label(exact["block"].entry[rows]))
        seen += 50
    assert seen == TUPLES


@settings(max_examples=25)
@given(
    share=st.integers(1, 40),
    world=st.integers(1, 4),
    start=st.integers(0, 10),
    depth=st.integers(1, 5),
    stop=st.integers(1, 4),
)
def test_every_tuple_once_for_any_batch_size_ranks_and_restart(
    run: Run, store: ImageStore, share: int, world: int, start: int, depth: int, stop: int
) -> None:
    path, _manifest, exact = run
    size = share * world
    begin, end = min(start, TUPLES // size - 1) * size, TUPLES // size * size
    per_rank = []
    for rank in range(world):
        ids, means = [], []
        first = TargetStream.open(path, store, size, begin, rank=rank, world_size=world, depth=depth)
        for number, batch in enumerate(first, 1):
            ids.append(batch.tuple_id)
            means.append(batch.mean)
            if number == stop:
                break
        rest = first.next_tuple
        for batch in TargetStream.open(path, store, size, rest, rank=rank, world_size=world) if rest < end else []:
            ids.append(batch.tuple_id)
            means.append(batch.mean)
        assert all(len(i) == share for i in ids)
        per_rank.append((ids, means))
    batches = {len(ids) for ids, _ in per_rank}
    assert batches == {TUPLES // size - begin // size}
    together = [torch.cat([ids[b] for ids, _ in per_rank]) for b in range(batches.pop())]
    ids = torch.cat(together)
    assert ids.tolist() == list(range(begin, end))
    mean = torch.cat([torch.cat([means[b] for _, means in per_rank]) for b in range(len(together))])
    np.testing.assert_allclose(mean.flatten(1), exact["mean"][ids], atol=2e-3)


def test_batches_carry_the_quality_of_their_means(
    run: Run, store: ImageStore, certified_sigma: np.ndarray, folder: Path
) -> None:
    path, _, exact = run
    batches = list(TargetStream.open(path, store, 50))
    certified, ess, variance, top = (
        torch.cat([getattr(batch, name) for batch in batches]).numpy()
        for name in ("certified", "ess", "variance", "top_weight")
    )
    weight, x = exact["weight"], entries_of(store, flips=False)
    by_definition = (weight @ np.square(x) - np.square(exact["mean"])).mean(1)
    recorded = ~certified
    assert 0 < recorded.sum() < TUPLES and ess[recorded].max() > 10
    np.testing.assert_allclose(ess[recorded], 1 / np.square(weight[recorded]).sum(1), rtol=1e-5)
    np.testing.assert_allclose(top[recorded], weight[recorded].max(1), rtol=1e-5)
    np.testing.assert_allclose(variance[recorded], by_definition[recorded], atol=1e-6)
    assert (ess[certified] == 1).all() and (top[certified] == 1).all() and (variance[certified] == 0).all()
    assert ess.dtype == variance.dtype == top.dtype == np.float32


def test_an_empty_stream_is_an_error(run: Run, store: ImageStore) -> None:
    path = run[0]
    with pytest.raises(MismatchError, match=r"tuples 600, there is no whole batch of 601 from 0 on: generate more"):
        TargetStream.open(path, store, TUPLES + 1)
    with pytest.raises(MismatchError, match="no whole batch of 200 from 600 on"):
        TargetStream.open(path, store, 200, start_tuple=TUPLES)
    stream = TargetStream.open(path, store, 200)
    assert len(list(stream)) == 3 and len(stream) == 0
    with pytest.raises(MismatchError, match="no batch is left: all 3 of this stream were taken"):
        list(stream)


def test_a_stream_is_a_context_manager(run: Run, store: ImageStore) -> None:
    with TargetStream.open(run[0], store, 10) as stream:
        next(batches := iter(stream))
    assert next(batches, None) is None
    with pytest.raises(ZeroDivisionError), TargetStream.open(run[0], store, 10) as stream:
        next(iter(stream))
        raise ZeroDivisionError
    assert not any(t.name == "postmean-stream" for t in threading.enumerate())


def test_leaving_a_stream_early_ends_its_thread(run: Run, store: ImageStore) -> None:
    before = threading.active_count()
    stream = TargetStream.open(run[0], store, 10, depth=1)
    for _ in stream:
        break
    stream.close()
    assert not any(t.name == "postmean-stream" for t in threading.enumerate())
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize("conditional", [False, True])
def test_heun_flips_and_classes_give_both_means(folder: Path, store: ImageStore, conditional: bool) -> None:
    path = folder / f"heun-{conditional}"
    noise = ICTNoise(batch_size=50, total_steps=4, s0=4, s1=16)
    manifest = make_run(path, store, 200, noise=noise, solver="heun", flips=True, conditional=conditional)
    exact = exact_targets(store, manifest, manifest.tuple_source(), 0, 200)
    batches = list(TargetStream.open(path, store, 50, recipe=manifest.recipe))
    for name in ("mean", "mean_next"):
        got = torch.cat([getattr(b, name) for b in batches]).flatten(1)
        np.testing.assert_allclose(got, exact[name], atol=2e-3)
    np.testing.assert_array_equal(torch.cat([b.sigma_next for b in batches]), exact["block"].sigma_next)
    assert not torch.cat([b.certified for b in batches]).any()


def test_ict_curriculum_changes_at_the_right_tuple(folder: Path, store: ImageStore) -> None:
    noise = ICTNoise(batch_size=20, total_steps=12, s0=2, s1=8)  # K' = 4 steps: 2, 4, 8 intervals
    make_run(folder / "curriculum", store, 240, np.full(len(store), 1e9, np.float32), noise=noise)
    sizes = []
    for batch in TargetStream.open(folder / "curriculum", store, 20):
        ratio = (batch.sigma ** (1 / 7) - batch.sigma_next ** (1 / 7)).numpy()
        intervals = (80 ** (1 / 7) - 0.002 ** (1 / 7)) / ratio
        assert np.allclose(intervals, intervals[0], rtol=1e-3), "one grid within a step"
        sizes.append(round(float(intervals[0])))
    assert sizes == [2] * 4 + [4] * 4 + [8] * 4


def test_self_contained_runs_have_a_record_of_every_tuple(folder: Path, store: ImageStore) -> None:
    make_run(folder / "plain", store, 60)
    assert not any(b.certified.any() for b in TargetStream.open(folder / "plain", store, 20))


MISMATCHES: dict[str, dict[str, Any]] = {
    "noise.P_mean": dict(noise=LogNormalNoise(P_mean=0.0)),
    "noise.kind": dict(noise=ICTNoise(batch_size=50)),
    "noise.P_std": dict(noise=ECTNoise()),
    "process.kind": dict(process=FlowMatchingProcess(), noise=LogitNormalTimeNoise()),
    "flips": dict(flips=True),
    "conditional": dict(conditional=True),
    "solver": dict(solver="heun", noise=ICTNoise()),
}


CURRICULA = [ECTNoise(), ECTNoise(q=256, k=3.0, b=0.5, stage_tuples=70), ECTNoise(q=4, stage_tuples=45)]


@pytest.mark.parametrize("made_for", [*CURRICULA, LogNormalNoise(P_mean=-1.1, P_std=2.0)], ids=lambda n: n.kind)
def test_targets_of_one_distribution_of_sigma_serve_every_curriculum_with_euler(
    folder: Path, store: ImageStore, made_for: Any
) -> None:
    """Each trainer gets, bit for bit, the batches of targets that were made for it."""
    where = folder / f"shared-{made_for.kind}-{getattr(made_for, 'q', 0)}"
    make_run(where, store, 100, noise=made_for, process=VPProcess())
    for number, noise in enumerate(CURRICULA):
        own = folder / f"own-{number}"
        recipe = (make_run(own, store, 100, noise=noise) if not own.exists() else manifest_at(own)).recipe
        batches = zip(
            TargetStream.open(where, store, 20, recipe=recipe), TargetStream.open(own, store, 20), strict=True
        )
        for shared, alone in batches:
            for column in dataclasses.fields(alone):
                a, b = getattr(shared, column.name), getattr(alone, column.name)
                assert (a is b is None) or torch.equal(a, b), column.name


def manifest_at(path: Path) -> Manifest:
    return RunFolder(open_storage(str(path))).read_manifest()


def test_heun_targets_serve_euler_and_need_the_same_teacher_point_for_heun(folder: Path, store: ImageStore) -> None:
    path, noise = folder / "heun-for-euler", ICTNoise(batch_size=20, total_steps=5, s0=4, s1=16)
    made = make_run(path, store, 100, noise=noise, solver="heun").recipe
    euler = dataclasses.replace(made, solver="euler")
    for mine, own in zip(
        TargetStream.open(path, store, 20, recipe=euler), TargetStream.open(path, store, 20), strict=True
    ):
        assert mine.mean_next is None and own.mean_next is not None
        assert torch.equal(mine.mean, own.mean) and torch.equal(mine.sigma_next, own.sigma_next)
    other = dataclasses.replace(made, noise=dataclasses.replace(noise, s1=32))
    with pytest.raises(MismatchError, match=r"noise\.s1 is 16 in the targets, 32 in the trainer"):
        TargetStream.open(path, store, 20, recipe=other)


@pytest.mark.parametrize("field", MISMATCHES)
def test_settings_that_disagree_are_refused_by_name(run: Run, store: ImageStore, field: str) -> None:
    path, manifest, _ = run
    wanted = dataclasses.replace(manifest.recipe, **MISMATCHES[field])
    with pytest.raises(MismatchError, match=field.replace(".", r"\.")) as error:
        TargetStream.open(path, store, 50, recipe=wanted)
    assert "generate again" in str(error.value)


def test_another_data_set_is_refused(run: Run, folder: Path) -> None:
    other = digits_store(folder / "other", 199)
    with pytest.raises(MismatchError, match="--store"):
        TargetStream.open(run[0], other, 50)


def test_other_random_numbers_are_refused(folder: Path, store: ImageStore) -> None:
    make_run(folder / "numbers", store, 20, tuple_fingerprint="0123456789abcdef", commit=False)
    with pytest.raises(MismatchError, match="tuple_fingerprint"):
        TargetStream.open(folder / "numbers", store, 20)


def test_curriculum_of_another_batch_size_is_refused(folder: Path, store: ImageStore) -> None:
    make_run(folder / "sizes", store, 40, noise=ICTNoise(batch_size=20, total_steps=2, s0=2, s1=4))
    with pytest.raises(MismatchError, match=r"noise\.batch_size 20.*--batch-size 20"):
        TargetStream.open(folder / "sizes", store, 10)


def test_too_few_tuples_are_refused_with_the_number_that_is_needed(run: Run, store: ImageStore) -> None:
    with pytest.raises(MismatchError, match="--tuples 650"):
        TargetStream.open(run[0], store, 50, steps=13)


def test_uncommitted_shards_are_refused(folder: Path, store: ImageStore, certified_sigma: np.ndarray) -> None:
    path = folder / "partial"
    manifest = make_run(path, store, 300, certified_sigma, records_per_shard=30, commit=False)
    run = RunFolder(open_storage(str(path)))
    for shard in (0, 1, 3):
        commit_exact_shard(run, store, manifest, shard, certified_sigma)
    ready = run.read_plan()[2].first_tuple // 10
    with pytest.raises(MismatchError, match=f"generate more.*train for {ready} steps"):
        TargetStream.open(path, store, 10)
    assert len(list(TargetStream.open(path, store, 10, steps=ready))) == ready


def shard_file(path: Path, shard: int) -> Path:
    return sorted(p for p in path.rglob("*.tar"))[shard]


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_a_damaged_shard_is_an_error_and_never_a_target(folder: Path, store: ImageStore, damage: str) -> None:
    path = folder / damage
    make_run(path, store, 120, records_per_shard=40)
    file = shard_file(path, 1)
    data = bytearray(file.read_bytes())
    if damage == "truncate":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 1
    file.write_bytes(data)
    got: list[int] = []
    with pytest.raises(ShardError, match="`postmean generate` again"):
        for batch in TargetStream.open(path, store, 20):
            got += batch.tuple_id.tolist()
    assert got == list(range(40))


def test_records_of_other_tuples_are_refused(
    folder: Path, store: ImageStore, certified_sigma: np.ndarray, run: Run
) -> None:
    # the certificate of another run: it disagrees with the plan about which tuples have records
    path = folder / "foreign"
    make_run(path, store, 200, certified_sigma, records_per_shard=40)
    other = certified_sigma.copy()
    other[::3] = 5.0
    begun = RunFolder(open_storage(str(path)))
    begun.begin(begun.read_manifest(), begun.read_plan(), other)
    with pytest.raises(MismatchError, match="tuple_id"):
        list(TargetStream.open(path, store, 20))


def test_a_run_that_was_begun_anew_with_other_settings_meanwhile_is_refused(folder: Path, store: ImageStore) -> None:
    """Plan and tuple numbers are the same in both runs, the means are not: no other check would notice."""
    path = folder / "anew"
    make_run(path, store, 200, records_per_shard=40)
    stream = iter(TargetStream.open(path, store, 20, depth=1, follow_seconds=10))
    next(stream)
    make_run(path, store, 200, records_per_shard=40, seed=8)
    with pytest.raises(ShardError, match="made by a run of other settings"):
        list(stream)


@pytest.mark.parametrize("bad", [dict(batch_size=0), dict(batch_size=10, start_tuple=5), dict(batch_size=10, rank=1)])
def test_impossible_sizes_are_refused(run: Run, store: ImageStore, bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TargetStream.open(run[0], store, **bad)


def test_a_batch_that_does_not_divide_among_the_ranks_is_refused(run: Run, store: ImageStore) -> None:
    with pytest.raises(ConfigError, match="ranks"):
        TargetStream.open(run[0], store, 10, world_size=3)


def test_a_stream_follows_a_run_that_is_still_being_made(
    folder: Path, store: ImageStore, certified_sigma: np.ndarray, run: Run
) -> None:
    """A stream opened before the manifest exists gives the targets of a finished run; shards come on demand."""
    path = folder / "growing"
    shards = len(RunFolder(open_storage(str(run[0]))).read_plan())
    asked = threading.Semaphore(0)

    def generate() -> None:
        asked.acquire()
        manifest = make_run(path, store, TUPLES, certified_sigma, records_per_shard=37, commit=False)
        growing = RunFolder(open_storage(str(path)))
        for shard in range(shards):
            asked.acquire()
            commit_exact_shard(growing, store, manifest, shard, certified_sigma)

    generator = threading.Thread(target=generate)
    generator.start()
    asked.release()
    stream = TargetStream.open(path, store, 50, follow_seconds=60)
    for _ in range(shards):
        asked.release()
    for batch, expected in zip(stream, TargetStream.open(run[0], store, 50), strict=True):
        assert torch.equal(batch.tuple_id, expected.tuple_id)
        assert torch.equal(batch.mean, expected.mean)
    generator.join()


def test_a_followed_run_that_stops_is_an_error_at_the_deadline(
    folder: Path, store: ImageStore, certified_sigma: np.ndarray
) -> None:
    with pytest.raises(ShardError, match=r"no run began there within 0.2 s"):
        TargetStream.open(folder / "never", store, 10, follow_seconds=0.2)
    path = folder / "stopped"
    manifest = make_run(path, store, 300, certified_sigma, records_per_shard=30, commit=False)
    commit_exact_shard(RunFolder(open_storage(str(path))), store, manifest, 0, certified_sigma)
    stream = TargetStream.open(path, store, 10, follow_seconds=0.2)
    with pytest.raises(ShardError, match=r"shard 000001 was not committed within 0.2 s: see `postmean status"):
        list(stream)


def test_waiting_for_a_run_and_for_its_shards_is_told(
    folder: Path,
    store: ImageStore,
    certified_sigma: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("postmean.training.stream.follow._QUIET_SECONDS", 0.0)
    monkeypatch.setattr("postmean.training.stream.stream._SECONDS_BETWEEN_NOTICES", 0.01)
    with pytest.raises(ShardError, match="no run began"):
        TargetStream.open(folder / "never", store, 10, follow_seconds=0.2, trainer="one")
    assert "never: waiting for a run to begin there, 0.2 s at most" in capfd.readouterr().err
    path = folder / "told"
    make_run(path, store, 300, certified_sigma, records_per_shard=30, commit=False)
    stream = TargetStream.open(path, store, 10, follow_seconds=0.2)
    told: list[float] = []
    with pytest.raises(ShardError, match="was not committed"):
        list(stream.batches(on_wait=lambda: told.append(stream.wait_seconds)))
    assert told and told == sorted(told)
    assert capfd.readouterr().err == ""


def test_closing_a_stream_that_waits_ends_its_threads(
    folder: Path, store: ImageStore, certified_sigma: np.ndarray
) -> None:
    path = folder / "waiting"
    manifest = make_run(path, store, 300, certified_sigma, records_per_shard=30, commit=False)
    commit_exact_shard(RunFolder(open_storage(str(path))), store, manifest, 0, certified_sigma)
    before = set(threading.enumerate())
    stream = TargetStream.open(path, store, 10, follow_seconds=3600)
    next(batches := iter(stream))
    stream.close()
    batches.close()
    started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(60)
    assert not [thread for thread in started if thread.is_alive()]


def test_an_iteration_left_while_it_waits_ends_and_another_goes_on(
    folder: Path, store: ImageStore, certified_sigma: np.ndarray, run: Run
) -> None:
    path = folder / "left"
    manifest = make_run(path, store, 300, certified_sigma, records_per_shard=30, commit=False)
    growing = RunFolder(open_storage(str(path)))
    commit_exact_shard(growing, store, manifest, 0, certified_sigma)
    before = set(threading.enumerate())
    stream = TargetStream.open(path, store, 10, follow_seconds=3600)
    first = iter(stream)
    seen = [next(first).tuple_id]
    leaving = threading.Thread(target=first.close, daemon=True)
    leaving.start()
    leaving.join(120)
    assert not leaving.is_alive(), "it waits for a shard that will not come"
    for thread in set(threading.enumerate()) - before:
        thread.join(120)
        assert not thread.is_alive()
    for shard in range(1, len(growing.read_plan())):
        commit_exact_shard(growing, store, manifest, shard, certified_sigma)
    kept = iter(stream)
    seen.append(next(kept).tuple_id)
    seen += [batch.tuple_id for batch in stream]
    assert next(kept, None) is None, "one iteration at a time"
    assert torch.cat(seen).tolist() == list(range(300))
