"""Attacks on a live server by those without the token, and by proxies and readers that go wrong."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postmean.base.errors import StorageError
from postmean.runs.live_connections import Limits
from postmean.runs.live_server import LiveServer
from postmean.runs.live_shards import LiveShards
from postmean.storage.open import open_reader
from postmean.storage.storage import Reader
from tests.support.live_attacks import (
    FILES,
    GET,
    SECRET,
    TOKEN,
    WITH_TOKEN,
    connect,
    crowd,
    established,
    exchange,
    statuses,
    until_closed,
)
from tests.support.runs import wait_until

SHORT = 0.3
"""Seconds that replace a limit which a test waits for."""


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTMEAN_TOKEN", TOKEN)


@pytest.fixture(autouse=True)
def strangers_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert caplog.messages == []


@contextmanager
def serving(shards: LiveShards | None = None, **limits: float) -> Iterator[int]:
    """Port of a server with these limits, which keeps running."""
    chosen = Limits(**limits)  # type: ignore[arg-type]
    with LiveServer("127.0.0.1", 0, FILES, shards or LiveShards(10, 2, 1), TOKEN, limits=chosen) as server:
        yield server.port
        assert reader(server.port).get("manifest.json") == SECRET, "it still serves"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer("127.0.0.1", 0, FILES, LiveShards(10, 2, 1), TOKEN) as server:
        yield server


@pytest.fixture
def port(server: LiveServer) -> Iterator[int]:
    """Port of a server with the usual limits, which keeps running."""
    yield server.port
    assert reader(server.port).get("manifest.json") == SECRET, "it still serves"


@pytest.fixture(scope="module")
def impatient_port() -> Iterator[int]:
    limits = Limits(head_seconds=SHORT, idle_seconds=0.0)
    with LiveServer("127.0.0.1", 0, FILES, LiveShards(10, 2, 1), TOKEN, limits=limits) as server:
        yield server.port


def reader(port: int) -> Reader:
    return open_reader(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("first", [b"", GET[:-2], b"\x16\x03\x01"], ids=["idle", "half a request", "no HTTP"])
def test_a_crowd_of_strangers_does_not_keep_out_the_holder_of_the_token(port: int, first: bytes) -> None:
    early = reader(port)
    assert early.get("manifest.json") == SECRET
    with crowd(port, 199, first):
        assert reader(port).get("manifest.json") == SECRET
        assert early.get("manifest.json") == SECRET
        wait_until(lambda: len(established(port)) <= Limits().strangers + 2, "few strangers are kept")


def test_strangers_that_come_again_and_again_do_not_keep_out_the_holder_of_the_token(port: int) -> None:
    over = threading.Event()

    def come_again() -> int:
        rounds = 0
        while not over.is_set():
            with crowd(port, 100, GET[:-2]):
                rounds += 1
        return rounds

    with ThreadPoolExecutor(2) as attackers:
        attacks = [attackers.submit(come_again) for _ in range(2)]
        try:
            for _ in range(20):
                assert reader(port).get("manifest.json") == SECRET
        finally:
            over.set()
        assert all(attack.result() for attack in attacks)


def test_a_stranger_is_cut_off_although_it_sends_something_now_and_then() -> None:
    with serving(head_seconds=SHORT) as port, connect(port) as slow, pytest.raises(ConnectionError):
        slow.sendall(b"GET /manifest.json HTTP/1.1\r\n" + WITH_TOKEN)
        while True:
            slow.sendall(b"X: y\r\n")
            time.sleep(SHORT / 10)


def test_an_idle_reader_is_disconnected_and_comes_again() -> None:
    with serving(idle_seconds=0.0, head_seconds=SHORT) as port, connect(port) as idle:
        patient = reader(port)
        assert patient.get("manifest.json") == SECRET
        idle.sendall(GET)
        assert statuses(until_closed(idle)) == [200]
        assert patient.get("manifest.json") == SECRET


def test_a_reader_that_does_not_read_is_cut_off() -> None:
    with serving(send_seconds=SHORT) as port, connect(port) as slow:
        slow.sendall(b"GET /plan.parquet HTTP/1.1\r\n" + WITH_TOKEN + b"\r\n")
        own = slow.getsockname()[1]
        assert own in established(port)
        wait_until(lambda: own not in established(port), "the server has closed its end")
        assert 0 < len(until_closed(slow)) < len(FILES["plan.parquet"])


def test_there_is_a_limit_to_readers_and_the_next_one_waits_until_one_has_gone() -> None:
    with serving(readers=2) as port, connect(port) as first, connect(port) as second:
        for one in (first, second):
            one.sendall(GET)
            while SECRET not in one.recv(1 << 16):
                pass
        assert statuses(exchange(port, GET)) == [503]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(reader(port).get, "manifest.json")
            first.close()
            assert waiting.result() == SECRET


@pytest.mark.parametrize("ask_for", ["manifest.json", "plan.parquet", "commits/000003.json"])
def test_readers_that_vanish_leave_room_for_others(ask_for: str) -> None:
    """In the middle of an answer, or while they wait for a shard, with and without a reset."""
    with serving(readers=2, hold_seconds=SHORT) as port:
        for number in range(6):
            with connect(port) as vanishing:
                if number % 2:
                    vanishing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                vanishing.sendall(f"GET /{ask_for} HTTP/1.1\r\n".encode() + WITH_TOKEN + b"\r\n")
                if number % 3:
                    vanishing.recv(1)
        wait_until(lambda: not established(port), "all connections have ended")


BODIES = {
    "length": b"Content-Length: %d\r\n\r\n" % len(GET),
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % len(GET),
    "both, the other way round": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(GET),
    "lengths in a list": b"Content-Length: 0, %d\r\n\r\n" % len(GET),
    "a signed length": b"Content-Length: +%d\r\n\r\n" % len(GET),
    "a space before the colon": b"Content-Length : %d\r\n\r\n" % len(GET),
    "a folded line": b"X: y\r\n Content-Length: %d\r\nContent-Length: 7\r\n\r\n" % len(GET),
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"Content-Length: %d\n\n" % len(GET),
    "expect": b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(GET),
}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_is_refused_and_never_taken_for_a_request(port: int, body: bytes, at_once: bool) -> None:
    request = b"GET /certified_sigma.npy HTTP/1.1\r\n" + WITH_TOKEN + body
    answer = exchange(port, request + GET) if at_once else exchange(port, request, GET)
    assert SECRET not in answer
    assert [status // 100 for status in statuses(answer)] in ([4], [5]), answer


def test_a_body_of_no_bytes_is_no_body(port: int) -> None:
    """Some proxies say so of every request."""
    request = GET[:-2] + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    assert SECRET in exchange(port, request)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "PRI"])
def test_other_methods_are_refused(port: int, method: str) -> None:
    answer = exchange(port, method.encode() + b" /manifest.json HTTP/1.1\r\n" + WITH_TOKEN + b"\r\n")
    assert statuses(answer) == [405] and SECRET not in answer


HEADS = {
    "one long line": GET[:-2] + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
    "many lines": GET[:-2] + b"X: y\r\n" * 4000 + b"\r\n",
    "a long path": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + WITH_TOKEN + b"\r\n",
    "no end": GET[:-2] + b"X: y\r\n" * 400_000,
    "no line": b"G" * 2_000_000,
    "line feeds": b"\n" * 2_000_000,
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_long_head_is_refused(port: int, head: bytes) -> None:
    parts = [head[start : start + 1000] for start in range(0, len(head), 1000)]
    for answer in (exchange(port, head), exchange(port, *parts)):
        assert SECRET not in answer
        assert statuses(answer) in ([431], [400], []), "[]: it was closed while more arrived"


SHOWN = {
    "none": b"",
    "another": b"Authorization: Bearer another token of the tests\r\n",
    "a part": f"Authorization: Bearer {TOKEN[:-1]}\r\n".encode(),
    "more": f"Authorization: Bearer {TOKEN}x\r\n".encode(),
    "no bearer": f"Authorization: {TOKEN}\r\n".encode(),
    "two": f"Authorization: Bearer {TOKEN}\r\n".encode() * 2,
    "no ASCII": b"Authorization: Bearer \xff\xfe\r\n",
    "in another place": f"Proxy-Authorization: Bearer {TOKEN}\r\nCookie: {TOKEN}\r\n".encode(),
}


def test_without_the_token_all_paths_look_the_same_and_nothing_is_made() -> None:
    shards = LiveShards(10, 2, 1)
    with serving(shards) as port:
        answers = set()
        for path in ("/manifest.json", "/commits/000003.json", "/absent", f"/manifest.json?token={quote(TOKEN)}", "*"):
            for method in ("GET", "POST"):
                for shown in SHOWN.values():
                    answer = exchange(port, f"{method} {path} HTTP/1.1\r\nHost: a\r\n".encode() + shown + b"\r\n")
                    answers.add(b"\n".join(line for line in answer.split(b"\r\n") if not line.startswith(b"date:")))
        assert len(answers) == 1 and statuses(answers.pop()) == [401]
        assert len(shards) == 0


def test_one_request_with_the_token_opens_nothing_for_the_next_one_without(port: int) -> None:
    bare = b"GET /manifest.json HTTP/1.1\r\nHost: a\r\n\r\n"
    assert statuses(exchange(port, GET + GET + bare + GET)) == [200, 200, 401]


def test_a_reader_is_told_in_one_line_that_its_token_is_wrong(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTMEAN_TOKEN", "some other token of the tests")
    with pytest.raises(StorageError, match="it refuses the token: set POSTMEAN_TOKEN_PATH"):
        reader(port).get("manifest.json")
    monkeypatch.setenv("POSTMEAN_TOKEN", TOKEN)


@pytest.mark.parametrize("path", ["//manifest.json", "/../manifest.json", "/%2e%2e/etc/passwd", "/manifest.json%00"])
def test_a_path_is_taken_as_it_is(port: int, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nConnection: close\r\n".encode() + WITH_TOKEN + b"\r\n"
    assert statuses(exchange(port, request)) == [404]


def test_a_shard_that_is_late_is_asked_for_again_and_one_that_is_not_in_the_plan_does_not_exist() -> None:
    """A commit that is not there yet is "no": the reader polls. Its shard was there, and will be again."""
    with serving(LiveShards(10, 2, 1), hold_seconds=0.0) as port:
        for path, status in (("commits/000003.json", 404), ("shards/000003.tar", 503), ("shards/000010.tar", 404)):
            request = f"GET /{path} HTTP/1.1\r\nConnection: close\r\n".encode() + WITH_TOKEN + b"\r\n"
            assert statuses(exchange(port, request)) == [status]


def test_leaving_the_server_releases_who_waits_for_a_shard() -> None:
    shards = LiveShards(10, 2, 1)
    with LiveServer("127.0.0.1", 0, FILES, shards, TOKEN, limits=Limits(hold_seconds=3600)) as server:
        waiting = connect(server.port)
        waiting.sendall(b"GET /commits/000003.json HTTP/1.1\r\n" + WITH_TOKEN + b"\r\n")
        wait_until(lambda: len(shards) > 0, "the request has arrived")
    with waiting:
        until_closed(waiting)
    assert shards.is_over()


@settings(max_examples=150)
@given(st.data())
def test_damaged_requests_get_at_most_one_answer_each(impatient_port: int, data: st.DataObject) -> None:
    damaged = bytearray(GET)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    answer = exchange(impatient_port, bytes(damaged) + b"\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert len(statuses(answer)) <= 2
    assert all(status in (200, 400, 401, 404, 405, 413, 431, 501) for status in statuses(answer)), answer
