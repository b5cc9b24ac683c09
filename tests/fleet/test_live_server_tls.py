"""A live run over TLS, with certificates that the tests make."""

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from postmean.base.errors import ConfigError, StorageError
from postmean.runs.live_connections import Limits
from postmean.runs.live_server import LiveServer
from postmean.runs.live_shards import LiveShards
from postmean.runs.live_tls import tls_context
from postmean.storage.open import open_reader
from tests.support.certificates import make_certificate
from tests.support.live_attacks import (
    FILES,
    GET,
    SECRET,
    TOKEN,
    connect,
    crowd,
    established,
    exchange,
    statuses,
    until_closed,
)
from tests.support.runs import PATIENCE, wait_until


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls") / "own")


@pytest.fixture(scope="module")
def port(pair: tuple[Path, Path]) -> Iterator[int]:
    with LiveServer("127.0.0.1", 0, FILES, LiveShards(10, 2, 1), TOKEN, tls_context(*pair)) as server:
        yield server.port


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTMEAN_TOKEN", TOKEN)


@pytest.fixture
def trusted(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))


def test_a_reader_that_trusts_the_certificate_reads(port: int, trusted: None) -> None:
    storage = open_reader(f"https://127.0.0.1:{port}")
    assert storage.get("manifest.json") == SECRET
    assert storage.get("plan.parquet") == FILES["plan.parquet"], "more than one part"
    assert storage.get_range("manifest.json", 4, 5) == b"manif"


def test_a_certificate_that_is_not_trusted_or_of_another_host_ends_at_once_with_the_remedy(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match=r"certificate is not trusted .*: set SSL_CERT_FILE"):
        open_reader(f"https://127.0.0.1:{port}").get("manifest.json")
    certificate, key = make_certificate(tmp_path / "another", host="192.0.2.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        LiveServer("127.0.0.1", 0, FILES, LiveShards(10, 2, 1), TOKEN, tls_context(certificate, key)) as server,
        pytest.raises(StorageError, match=r"certificate is not trusted .*: set SSL_CERT_FILE"),
    ):
        open_reader(f"https://127.0.0.1:{server.port}").get("manifest.json")


def test_https_to_a_server_without_tls_ends_at_once_with_the_remedy() -> None:
    with (
        LiveServer("127.0.0.1", 0, FILES, LiveShards(10, 2, 1), TOKEN) as server,
        pytest.raises(StorageError, match="it does not speak TLS: pass http://"),
    ):
        open_reader(f"https://127.0.0.1:{server.port}").get("manifest.json")


def test_without_tls_a_server_with_it_answers_nothing(port: int, trusted: None) -> None:
    assert SECRET not in exchange(port, GET)
    assert open_reader(f"https://127.0.0.1:{port}").get("manifest.json") == SECRET


def test_a_request_that_comes_with_the_handshake_is_answered(port: int, pair: tuple[Path, Path]) -> None:
    """The client's last handshake message and its request arrive in one piece."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=str(pair[0])).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with connect(port) as connection:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(1 << 16))
        client.write(GET)
        connection.sendall(outgoing.read())
        answer = b""
        while SECRET not in answer:
            try:
                answer += client.read(1 << 16)
            except ssl.SSLWantReadError:
                data = connection.recv(1 << 16)
                assert data, "it was closed without an answer"
                incoming.write(data)
    assert statuses(answer) == [200]


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""How a handshake begins; the rest of its 512 bytes never comes."""


@pytest.mark.parametrize("first", [b"", HELLO, GET], ids=["idle", "half a handshake", "no TLS"])
def test_a_crowd_that_ends_no_handshake_does_not_keep_out_the_holder_of_the_token(
    port: int, trusted: None, first: bytes
) -> None:
    with crowd(port, 199, first):
        assert open_reader(f"https://127.0.0.1:{port}").get("manifest.json") == SECRET
        wait_until(lambda: len(established(port)) <= Limits().strangers + 2, "few strangers are kept")


def test_those_that_vanish_in_the_handshake_or_after_it_leave_room_for_others(
    pair: tuple[Path, Path], trusted: None
) -> None:
    limits = Limits(strangers=3, readers=2)
    trusting = ssl.create_default_context(cafile=str(pair[0]))
    with LiveServer("127.0.0.1", 0, FILES, LiveShards(10, 2, 1), TOKEN, tls_context(*pair), limits) as server:
        for number in range(24):
            with connect(server.port) as plain:
                if number % 2:
                    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if number % 4 == 0:
                    plain.sendall(HELLO)
                elif number % 4 > 1:
                    trusting.wrap_socket(plain, server_hostname="127.0.0.1").sendall(GET)
        assert open_reader(f"https://127.0.0.1:{server.port}").get("manifest.json") == SECRET


def test_a_handshake_that_does_not_end_is_cut_off(pair: tuple[Path, Path]) -> None:
    limits = Limits(head_seconds=0.3)
    with (
        LiveServer("127.0.0.1", 0, FILES, LiveShards(10, 2, 1), TOKEN, tls_context(*pair), limits) as server,
        connect(server.port) as slow,
    ):
        slow.sendall(HELLO)
        assert until_closed(slow) == b""


@contextmanager
def secured_connection(pair: tuple[Path, Path], limits: Limits) -> Iterator[tuple[LiveServer, ssl.SSLSocket]]:
    """A server with these limits, and a connection to it whose handshake is over."""
    trusting = ssl.create_default_context(cafile=str(pair[0]))
    with (
        LiveServer("127.0.0.1", 0, FILES, LiveShards(10, 2, 1), TOKEN, tls_context(*pair), limits) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain,
        trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        yield server, secured


def test_a_secured_connection_that_asks_nothing_is_cut_off(pair: tuple[Path, Path]) -> None:
    with secured_connection(pair, Limits(head_seconds=0.3)) as (_, secured):
        secured.sendall(GET[:-2])
        with suppress(OSError):  # cut off without TLS's own farewell
            assert secured.recv(1) == b""


def test_a_reader_that_does_not_read_is_cut_off(pair: tuple[Path, Path]) -> None:
    with secured_connection(pair, Limits(send_seconds=0.3)) as (server, slow):
        slow.sendall(GET.replace(b"manifest.json", b"plan.parquet"))
        wait_until(lambda: not established(server.port), "the server has closed its end")


def test_old_versions_of_tls_are_refused(port: int) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with connect(port) as plain, pytest.raises(OSError):
        old.wrap_socket(plain)


def test_files_that_are_no_certificate_and_key_are_refused_in_one_line(pair: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = pair
    other_certificate, other_key = make_certificate(tmp_path / "other")
    _, encrypted = make_certificate(tmp_path / "encrypted", password=b"secret")
    text = tmp_path / "text"
    text.write_text("no certificate")
    for chosen, named in (
        ((tmp_path / "absent", key), "--tls-certificate"),
        ((certificate, tmp_path), "--tls-key"),
        ((text, key), "not in PEM format|no start line"),
        ((certificate, text), "not in PEM format|no start line"),
        ((key, certificate), "not in PEM format|no start line"),
        ((certificate, other_key), "mismatch"),
        ((other_certificate, key), "mismatch"),
        ((certificate, encrypted), "encrypted"),
        ((certificate, Path("/dev/zero")), "--tls-key"),
    ):
        with pytest.raises(ConfigError, match=named) as error:
            tls_context(*chosen)
        assert "\n" not in str(error.value)
    assert tls_context(None, None) is None
