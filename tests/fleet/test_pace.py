"""How far a generation may go and what it may delete, given its trainers' positions: no Ray, no actors."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postmean.base.errors import MismatchError, ShardError
from postmean.base.json_files import to_sealed_json
from postmean.fleet.backlog import PlannedShards
from postmean.runs.pace import Pace
from postmean.shards.positions import Position, write_position
from postmean.shards.retention import deleted_shards
from postmean.shards.run_folder import RunFolder
from postmean.storage.memory import MemoryStorage
from postmean.storage.open import open_storage
from tests.fleet.conftest import TUPLES
from tests.support.runs import files_of

Expected = dict[str, dict[str, bytes]]


@pytest.fixture
def run(expected: Expected, tmp_path: Path) -> RunFolder:
    """The finished run of the job."""
    for path, data in expected["webdataset"].items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    return RunFolder(open_storage(tmp_path))


def at(tuple_id: int, resume: int = 0, finished: bool = False) -> Position:
    return Position(next_tuple=tuple_id, batch_size=100, resume_tuple=resume, finished=finished)


def limit(run: RunFolder, trainers: int = 1, ahead: int = 3) -> int | None:
    backlog = PlannedShards(range(len(run.read_plan())))
    Pace(run, backlog, ahead, trainers, False, 60.0).look()
    assert backlog.takeable(10**6) == (backlog.limit or 0)
    return backlog.limit


def test_shards_are_made_for_the_next_batch_of_the_slowest_trainer_and_so_many_ahead(run: RunFolder) -> None:
    plan = run.read_plan()
    assert limit(run) == 4
    write_position(run.storage, "a", at(2000))
    assert limit(run) == plan.shard_of(2099) + 4
    write_position(run.storage, "b", at(500))
    assert limit(run, trainers=2) == plan.shard_of(599) + 4
    assert limit(run, trainers=3) == 4, "one has not begun"
    write_position(run.storage, "b", at(500, finished=True))
    assert limit(run, trainers=2) == plan.shard_of(2099) + 4


def test_a_damaged_position_counts_as_the_beginning(run: RunFolder) -> None:
    write_position(run.storage, "a", at(2000))
    run.storage.put("trainers/b.json", b'{"next_tuple": "far"}')
    assert limit(run) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"resume_tuple": 10**12},
        {"resume_tuple": 2001},
        {"resume_tuple": -1},
        {"next_tuple": TUPLES + 1, "resume_tuple": TUPLES + 1},
        {"next_tuple": 10**30, "resume_tuple": 0},
        {"next_tuple": -5, "resume_tuple": -5},
        {"batch_size": 0},
    ],
    ids=str,
)
def test_a_position_that_cannot_be_deletes_nothing_and_is_named(run: RunFolder, tmp_path: Path, wrong: dict) -> None:
    before = files_of(tmp_path)
    write_position(run.storage, "a", at(3000, resume=2500))
    write_position(run.storage, "b", replace(at(2000, resume=1000), **wrong))
    pace = Pace(run, PlannedShards([]), 1, 1, True, 60.0)
    with pytest.raises(MismatchError, match=r"trainers/b\.json: .* remove the file") as error:
        pace.look()
    assert "\n" not in str(error.value)
    assert files_of(tmp_path).items() >= before.items()
    run.storage.delete("trainers/b.json")
    assert pace.look(), "the remedy helps"


def test_nobody_can_have_passed_a_shard_that_is_not_made(run: RunFolder, tmp_path: Path) -> None:
    plan = run.read_plan()
    run.storage.delete("commits/000007.json")
    write_position(run.storage, "a", at(int(plan.last_tuple[6]) + 1, resume=0))
    Pace(run, PlannedShards([]), None, 1, True, 60.0).look()
    write_position(run.storage, "a", at(int(plan.last_tuple[7]) + 1, resume=int(plan.last_tuple[7])))
    with pytest.raises(MismatchError, match=r"trainers/a\.json: .* shard 000007 is not made yet"):
        Pace(run, PlannedShards([]), None, 1, True, 60.0).look()
    assert deleted_shards(run) == 0


@given(st.integers(0, TUPLES), st.integers(0, TUPLES), st.integers(1, 3), st.booleans())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_a_trainer_may_resume_from_is_never_deleted(
    run: RunFolder, next_tuple: int, resume_tuple: int, trainers: int, finished: bool
) -> None:
    paths = ("manifest.json", "plan.parquet", "certified_sigma.npy", *run.storage.list("commits"))
    copy = RunFolder(MemoryStorage({path: run.storage.get(path) for path in paths}))
    write_position(copy.storage, "a", at(next_tuple, resume_tuple, finished))
    pace = Pace(copy, PlannedShards([]), None, trainers, True, 60.0)
    if resume_tuple > next_tuple:
        with pytest.raises(MismatchError):
            pace.delete_all()
    else:
        pace.delete_all()
    needed = copy.read_plan().shard_of(min(next_tuple, resume_tuple)) if trainers == 1 else 0
    assert deleted_shards(copy) <= needed
    assert deleted_shards(copy) == needed or resume_tuple > next_tuple


def test_a_run_whose_trainers_have_all_finished_is_over(run: RunFolder) -> None:
    write_position(run.storage, "a", at(2000, finished=True))
    backlog = PlannedShards(range(3))
    pace = Pace(run, backlog, 1, 1, False, 60.0)
    pace.look()
    assert pace.all_finished and backlog.is_over() and not pace.is_stuck


def test_a_run_whose_trainer_does_not_move_is_over_after_its_deadline(run: RunFolder) -> None:
    write_position(run.storage, "a", at(0))
    backlog = PlannedShards(range(3, 10))
    pace = Pace(run, backlog, 1, 1, False, 1e-9)
    pace.look()
    assert not backlog.is_over(), "its position is news"
    pace.look()
    assert pace.is_stuck and backlog.is_over()


def test_a_trainer_that_waits_for_a_shard_that_is_being_made_is_not_blamed(run: RunFolder) -> None:
    write_position(run.storage, "a", at(0))
    backlog = PlannedShards([0])
    assert backlog.take() == 0
    pace = Pace(run, backlog, 1, 1, False, 1e-9)
    for _ in range(3):
        pace.look()
    assert not pace.is_stuck
    backlog.put_back(0)
    backlog.limit = 0
    assert not backlog.is_making()
    backlog.limit = None
    assert backlog.take() == 0
    backlog.settle(0)
    pace.look()
    assert pace.is_stuck


def test_what_was_announced_and_not_deleted_is_deleted_by_the_next_call(run: RunFolder, tmp_path: Path) -> None:
    """As after a kill. Deletion proceeds in parts, but is complete before a run ends."""
    plan, before = run.read_plan(), files_of(tmp_path)
    run.storage.put("deleted.json", to_sealed_json({"shards": 3}))
    write_position(run.storage, "a", at(4000, resume=int(plan.last_tuple[6])))
    with Pace(run, PlannedShards([]), None, 1, True, 60.0):
        pass
    assert before.keys() - files_of(tmp_path).keys() == {f"shards/{shard:06d}.tar" for shard in range(6)}


def test_deletion_in_parts_lets_the_limit_rise_in_between(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postmean.runs.pace._DELETED_AT_ONCE", 2)
    write_position(run.storage, "a", at(4000, resume=int(run.read_plan().last_tuple[5])))
    pace = Pace(run, PlannedShards([]), None, 1, True, 60.0)
    gone = []
    while pace.look():
        gone.append(deleted_shards(run))
    assert gone == [2, 4, 5]


def test_what_no_trainer_can_need_again_is_deleted_and_nothing_else(run: RunFolder, tmp_path: Path) -> None:
    before, plan = files_of(tmp_path), run.read_plan()
    pace = Pace(run, PlannedShards([]), None, 2, True, 60.0)
    write_position(run.storage, "a", at(3000, resume=2500))
    pace.look()
    assert deleted_shards(run) == 0, "one has not begun"
    write_position(run.storage, "b", at(4000, resume=int(plan.last_tuple[4])))
    pace.look()
    assert deleted_shards(run) == 4, "of shard 4 the last tuple is not consumed"
    gone = before.keys() - files_of(tmp_path).keys()
    assert gone == {f"shards/{shard:06d}.tar" for shard in range(4)}
    assert run.committed().all()
    write_position(run.storage, "b", at(4000, resume=2700))
    run.storage.delete("commits/000005.json")
    pace.look()
    assert deleted_shards(run) == 5, "shard 5 was never there"


def test_a_damaged_account_of_what_was_deleted_is_an_error(run: RunFolder) -> None:
    for damaged in (b"", b"[]", b'{"shards": 1}', *(to_sealed_json({"shards": n}) for n in (-1, 10**6, True))):
        run.storage.put("deleted.json", damaged)
        with pytest.raises(ShardError, match=r"deleted\.json: damaged"):
            deleted_shards(run)


def test_a_shard_that_failed_is_tried_again_soon_and_within_the_limit() -> None:
    backlog = PlannedShards(range(1000))
    backlog.limit = 5
    first = backlog.take()
    assert first == 0
    backlog.put_back(first)
    assert [backlog.take() for _ in range(6)] == [1, 2, 3, 4, 0, None]
    backlog.limit = None
    backlog.put_back(0)
    assert 0 in [backlog.take() for _ in range(100)][1:]
