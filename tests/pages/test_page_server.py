"""`postmean status --serve`: the page follows the run, and answers this machine's browsers alone."""

import http.client
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from postmean.base.errors import ConfigError, ShardError
from postmean.cli.status import _with_address
from postmean.pages import page_server
from postmean.pages.page import Page, Section
from postmean.pages.page_server import Address, PageServer
from postmean.pages.run_page import RunPage
from postmean.runs.history import History
from postmean.storage.open import open_storage
from tests.support.runs import PATIENCE, free_port


def ask(url: str, method: str = "GET", path: str = "/", host: str | None = None) -> tuple[int, str, dict[str, str]]:
    place = url.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(place, timeout=PATIENCE)
    connection.request(method, path, headers={"Host": host or place})
    response = connection.getresponse()
    return response.status, response.read().decode(), {k.lower(): v for k, v in response.getheaders()}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "REFRESH_SECONDS", 0)


@pytest.mark.slow
def test_the_page_follows_the_run(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    commit = copy / "commits/000003.json"
    kept = commit.read_bytes()
    commit.unlink()
    with PageServer(Address(port=0), RunPage(open_storage(copy), None).make) as server:
        status, html, headers = ask(server.url)
        assert status == 200 and "stopped" in html
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        commit.write_bytes(kept)
        server._made = float("-inf")
        assert "finished" in ask(server.url)[1]


def test_strangers_get_nothing() -> None:
    calls = []

    def make() -> Page:
        calls.append(1)
        raise ShardError("damaged <b>: generate again")

    with PageServer(Address(port=0), make) as server:
        port = server.url.rsplit(":", 1)[1].rstrip("/")
        assert ask(server.url, host="evil.example")[0] == 403
        assert ask(server.url, host=f"evil.example:{port}")[0] == 403
        assert ask(server.url, method="POST")[0] == 405
        assert ask(server.url, path="/manifest.json")[0] == 404
        assert ask(server.url, path="/../../etc/passwd")[0] == 404
        assert not calls
        status, html, _ = ask(server.url, host=f"localhost:{port}")
        assert status == 200 and "damaged &lt;b&gt;: generate again" in html
        assert ask(server.url, method="HEAD")[1] == ""


def test_a_page_that_takes_long_is_made_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "REFRESH_SECONDS", 3600)
    calls = []

    def make() -> Page:
        calls.append(1)
        return Page(title="t", state="running", sections=[Section(title="s")], footer="")

    with PageServer(Address(port=0), make) as server:
        assert ask(server.url)[1] == ask(server.url)[1]
    assert len(calls) == 1


def test_an_address_in_use_and_one_that_is_none() -> None:
    with PageServer(Address(port=0), lambda: Page(title="", state="x", sections=[], footer="")) as server:
        port = int(server.url.rsplit(":", 1)[1].rstrip("/"))
        with pytest.raises(ConfigError, match=r"cannot listen there.*pass another"):
            PageServer(Address(port=port), lambda: Page(title="", state="x", sections=[], footer=""))
    for text in ("host:port", "1.2.3.4:99999", ":x"):
        with pytest.raises(ConfigError, match="expected HOST:PORT"):
            Address.parse(text)
    assert Address.parse(":80") == Address(port=80) and Address.parse("[::1]:80") == Address(host="::1", port=80)


def test_serve_needs_no_address() -> None:
    default = "127.0.0.1:8802"
    assert _with_address(["run", "--serve"]) == ["run", "--serve", default]
    assert _with_address(["--serve", "run"]) == ["--serve", default, "run"]
    assert _with_address(["--serve", "--json", "run"]) == ["--serve", default, "--json", "run"]
    for address in (":80", "0.0.0.0:80", "[::1]:80", "my-host:1"):
        assert _with_address(["--serve", address, "run"]) == ["--serve", address, "run"]


def test_a_history_stays_short_and_keeps_its_ends() -> None:
    history = History()
    for second in range(0, 1_000_000, 5):
        history.add(float(second), second * 3)
    points = history.points
    assert len(points) < 1000
    assert points[0] == (0.0, 0) and points[-1] == (999_995.0, 2_999_985)
    assert all(records == 3 * moment for moment, records in points)
    assert [p[0] for p in points] == sorted(p[0] for p in points)
    late = History(points)
    late.add(5.0, 1)  # the clock went back
    assert late.points == ((5.0, 1),)


@pytest.mark.slow
def test_the_command_serves_until_ctrl_c(run: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "postmean", "status", str(run), "--serve", f"127.0.0.1:{port}"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    assert f"at http://127.0.0.1:{port}/" in process.stderr.readline()
    assert "finished" in ask(f"http://127.0.0.1:{port}/")[1]
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
