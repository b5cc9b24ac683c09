"""With POSTMEAN_LOG=json every line on stderr is a JSON object; without it there is none."""

import json

import pytest

from postmean.base import progress as progress_module
from postmean.base.log import log_event
from postmean.base.progress import Progress
from postmean.cli.main import run


class Clock:
    """A clock that moves ten seconds at every reading."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 10
        return self.now


@pytest.fixture
def structured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTMEAN_LOG", "json")


def test_events_are_objects_with_a_time(structured: None, capsys: pytest.CaptureFixture[str]) -> None:
    log_event("shard failed", shard=7, cause='a "cause"\nof two lines')
    lines = capsys.readouterr().err.splitlines()
    found = json.loads(lines[0])
    assert len(lines) == 1
    assert (found["event"], found["shard"], found["cause"]) == ("shard failed", 7, 'a "cause"\nof two lines')
    assert found["time"].endswith("+00:00")


def test_progress_is_an_event(
    structured: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "time", Clock())
    with Progress("generate", 1000, "records") as progress:
        progress.update(500, "2 actors")
        progress.update(1000)
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["done"] for line in found] == [500, 1000, 1000]
    assert {line["event"] for line in found} == {"progress"}
    assert found[0] | {"task": "generate", "total": 1000, "unit": "records", "note": "2 actors"} == found[0]
    assert found[-1]["seconds_left"] is None


def test_an_error_is_an_event(structured: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", ["gopher://somewhere"]) == 2
    found = json.loads(capsys.readouterr().err)
    assert (found["event"], found["command"]) == ("error", "status")
    assert "gopher" in found["message"]


def test_people_get_no_events(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTMEAN_LOG", raising=False)
    log_event("shard failed", shard=7)
    assert capsys.readouterr().err == ""
