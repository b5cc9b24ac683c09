"""Live targets on this machine are read without the proxy of the environment, others through it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from postmean.runs.live_server import LiveServer
from postmean.runs.live_shards import LiveShards
from postmean.storage.open import open_reader
from tests.support.live_attacks import FILES, SECRET, TOKEN


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the proxy of the environment was asked for; it answers everything itself."""
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"proxy")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_address[1]}")
        monkeypatch.setenv("POSTMEAN_TOKEN", TOKEN)
        yield asked
        proxy.shutdown()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST", "127.1", "2130706433", "0.0.0.0", "[::ffff:127.0.0.1]"]
)
def test_this_machine_is_reached_without_it(asked: list[str], host: str) -> None:
    with LiveServer("127.0.0.1", 0, FILES, LiveShards(10, 2, 1), TOKEN) as server:
        assert open_reader(f"http://{host}:{server.port}").get("manifest.json") == SECRET
    assert asked == []


def test_this_machine_is_reached_without_it_by_version_6(asked: list[str]) -> None:
    with LiveServer("::1", 0, FILES, LiveShards(10, 2, 1), TOKEN) as server:
        assert open_reader(f"http://[::1]:{server.port}").get("manifest.json") == SECRET
    assert asked == []


@pytest.mark.parametrize("host", ["targets.example", "192.0.2.7", "127.0.0.1.example", "localhost.example"])
def test_other_machines_are_reached_through_it(asked: list[str], host: str) -> None:
    assert open_reader(f"http://{host}:8801").get("manifest.json") == b"proxy"
    assert asked == [f"http://{host}:8801/manifest.json"]
