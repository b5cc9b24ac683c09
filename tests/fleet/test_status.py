"""What `postmean status` says of the bytes of a run, whatever its driver had reported before it was killed."""

from pathlib import Path

import pytest

from postmean.base.json_files import to_json
from postmean.runs import status as status_module
from postmean.runs.status import DriverStatus, read_status
from postmean.storage.memory import MemoryStorage

Expected = dict[str, dict[str, bytes]]


@pytest.fixture
def killed(expected: Expected) -> MemoryStorage:
    """The job's run, in which 40 of some 55 shards are committed."""
    files = expected["webdataset"]
    late = {f"commits/{shard:06d}.json" for shard in range(40, 1000)}
    return MemoryStorage({path: data for path, data in files.items() if path not in late})


def report(storage: MemoryStorage, shards: int, size: int) -> None:
    """The last report of the driver."""
    storage.put(
        "status.json",
        to_json(DriverStatus(time=0.0, shards=shards, bytes=size, records_per_second=1.0, seconds_left=9.0, retries=2)),
    )


def bytes_of(storage: MemoryStorage, shards: int) -> int:
    return sum(len(storage.get(f"shards/{shard:06d}.tar")) for shard in range(shards))


def test_a_report_from_before_the_last_shards_is_not_trusted(killed: MemoryStorage) -> None:
    for shards, size in ((0, 0), (39, 7), (41, 7)):
        report(killed, shards, size)
        seen = read_status(killed)
        assert (seen.state, seen.shards_done, seen.retries) == ("stopped", 40, 2)
        assert (seen.bytes, seen.are_bytes_estimated) == (bytes_of(killed, 40), False)
    killed.delete("status.json")
    assert read_status(killed).bytes == bytes_of(killed, 40)


def test_a_report_of_the_same_shards_is(killed: MemoryStorage) -> None:
    report(killed, 40, 12_345)
    assert read_status(killed).bytes == 12_345


def test_many_shards_are_estimated_and_said_to_be(killed: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "_SAMPLE", 8)
    report(killed, 3, 7)
    seen = read_status(killed)
    assert seen.are_bytes_estimated
    assert seen.bytes == pytest.approx(bytes_of(killed, 40), rel=0.1)


def test_damaged_commit_records_do_not_count(killed: MemoryStorage, tmp_path: Path) -> None:
    killed.put("commits/000003.json", b"{")
    assert read_status(killed).bytes == pytest.approx(bytes_of(killed, 40), rel=0.1)
    for shard in range(40):
        killed.put(f"commits/{shard:06d}.json", b"{")
    assert read_status(killed).bytes is None
