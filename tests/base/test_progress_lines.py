"""Progress: a bar in a terminal, plain lines where there is none, nothing for short work."""

import io
import re
import time

import pytest

from postmean.base import progress as progress_module
from postmean.base.progress import NoProgress, Progress, byte_size, duration, shown


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_plain_lines_every_ten_seconds_and_a_last_one(clock):
    stream = io.StringIO()
    with Progress("generate", 1000, "tuples", stream) as progress:
        for second in range(1, 31):
            clock.now = 100.0 + second
            progress.update(second * 20, "2 actors")
    text = stream.getvalue()
    assert "\r" not in text
    assert "\x1b" not in text
    lines = text.splitlines()
    assert [line.split()[1] for line in lines] == ["4.0%", "24.0%", "44.0%", "60.0%"]
    assert lines[1] == "generate:  24.0%  240/1,000 tuples  20 tuples/s  38.0 s left  2 actors"
    assert lines[-1] == "generate:  60.0%  600/1,000 tuples  20 tuples/s  in 30.0 s  2 actors"


def test_nothing_for_work_shorter_than_two_seconds(clock):
    stream = io.StringIO()
    with Progress("index", 10, "images", stream) as progress:
        clock.now += 1.9
        progress.update(10)
    assert stream.getvalue() == ""


def test_a_terminal_has_one_line_that_is_rewritten_with_rate_and_time_left() -> None:
    stream = Terminal()
    with Progress("import", 10, "images", stream) as progress:
        progress.start_at(4)
        for done in range(5, 11):
            time.sleep(0.3)
            progress.update(done, "2 skipped")
    drawn = stream.getvalue().split("\r")
    assert len(drawn) > 4 and stream.getvalue().count("\n") == 1 and stream.getvalue().endswith("\n")
    line = r"import: +(\d+)%\|.*\| (\d+)/10 \[\d\d:\d\d<\d\d:\d\d, +[0-3]\.\d+ images/s, 2 skipped\]"  # 3.3 at most
    shown = [match.groups() for text in drawn if (match := re.match(line, text))]
    assert shown[-1] == ("100", "10") and ("60", "6") in shown


def test_a_terminal_shows_nothing_for_short_work() -> None:
    stream = Terminal()
    with Progress("import", 10, "images", stream) as progress:
        progress.update(10)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("progress", [False, NoProgress])
def test_progress_can_be_off_in_a_terminal(progress: bool | type[Progress], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with shown(progress)("import", 10, "images") as line:
        time.sleep(0.3)
        line.update(5)
    assert stream.getvalue() == ""
    assert shown(True) is Progress


def test_work_done_before_counts_in_the_share_but_not_in_the_rate(clock):
    stream = io.StringIO()
    with Progress("generate", 100, "shards", stream) as progress:
        progress.start_at(50)
        clock.now += 5
        progress.update(60)
    assert stream.getvalue().splitlines()[-1] == "generate:  60.0%  60/100 shards  2 shards/s  in 5.0 s"


def test_interrupted_short_work_says_nothing_and_no_total_is_no_error(clock):
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress("plan", 10, "tuples", stream):
        clock.now += 60
        raise KeyboardInterrupt
    with Progress("plan", 0, "tuples", stream) as progress:
        clock.now += 3
        progress.update(0)
    assert stream.getvalue().startswith("plan: 100.0%  0/0 tuples  0 tuples/s")


def test_durations_and_sizes_are_for_people():
    assert [duration(s) for s in (0, 4.21, 59.94, 200, 18720, 3599.9, 273600)] == [
        "0.0 s",
        "4.2 s",
        "59.9 s",
        "3 min 20 s",
        "5 h 12 min",
        "1 h 0 min",
        "3 d 4 h",
    ]
    assert [byte_size(b) for b in (0, 999, 1000, 12_300_000_000, 5e15, 3e18)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "12.3 GB",
        "5.0 PB",
        "3000.0 PB",
    ]
