"""An embedded Ray asks for a token of its own, whatever the environment says; a cluster's token comes from it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from postmean.base.errors import ConfigError
from postmean.fleet import ray_token
from tests.support.runs import actors_of, descendants, finish, start, wait_for_commits

SWITCH_ON_TWICE = """
import json, os, sys
from postmean.fleet import ray_token
for _ in range(2):
    ray_token.switch_on(None)
    sys.modules["ray"] = sys  # from now on it is too late for another token
    print(json.dumps({name: value for name, value in os.environ.items() if "TOKEN" in name or "AUTH" in name}))
"""
ASK = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None)
"""
HOSTILE = [
    {},
    {"RAY_AUTH_MODE": "disabled"},
    {"RAY_AUTH_MODE": ""},
    {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": ""},
    {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "  "},
    {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a token that all users of a cluster know"},
    {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/dev/null"},
    {"RAY_AUTH_MODE": "token", "RAY_ENABLE_K8S_TOKEN_AUTH": "1"},
]


def without_tokens(**added: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | added


@pytest.mark.parametrize("inherited", HOSTILE, ids=str)
def test_an_embedded_ray_has_a_token_of_its_own_and_keeps_it(inherited: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWITCH_ON_TWICE], env=without_tokens(**inherited), capture_output=True, text=True
    )
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == second
    assert first.keys() == {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}
    assert first["RAY_AUTH_MODE"] == "token"
    assert len(bytes.fromhex(first["RAY_AUTH_TOKEN"])) == 32
    assert first["RAY_AUTH_TOKEN"] not in inherited.values()


@pytest.mark.parametrize("inherited", [{}, {"RAY_AUTH_MODE": "disabled"}, *HOSTILE[3:5]], ids=str)
def test_a_ray_imported_too_early_without_a_token_is_refused(
    inherited: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", sys)
    monkeypatch.setattr(ray_token, "_own", [])
    for name, value in inherited.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="ray was imported before"):
        ray_token.switch_on(None)


def test_a_cluster_needs_a_token_unless_it_is_said_to_have_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.write_text("\n")
    full.write_text("secret\n")
    for given in (
        {},
        {"RAY_AUTH_TOKEN": " "},
        {"RAY_AUTH_TOKEN_PATH": str(empty)},
        {"RAY_AUTH_TOKEN_PATH": "/no/such"},
    ):
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            with pytest.raises(ConfigError, match="RAY_ADDRESS host:1: no token for this cluster"):
                ray_token.switch_on("host:1")
    for given in ({"RAY_AUTH_TOKEN": "x"}, {"RAY_AUTH_TOKEN_PATH": str(full)}, {"RAY_AUTH_MODE": "disabled"}):
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            ray_token.switch_on("host:1")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    ray_token.switch_on("host:1")


@pytest.mark.slow
@pytest.mark.parametrize("inherited", HOSTILE[1:4], ids=str)
def test_a_stranger_is_turned_away(
    inherited: dict[str, str],
    job: list[str],
    ray_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_AUTH")]:
        monkeypatch.delenv(name)
    for name, value in inherited.items():
        monkeypatch.setenv(name, value)
    running = start(*job, f"--out={tmp_path}")
    wait_for_commits(tmp_path, 3, running)
    for actor in actors_of(running):  # so that the run does not end meanwhile
        os.kill(actor, signal.SIGSTOP)
    (port,) = (path.read_text() for path in ray_root.rglob("gcs_server_port_*"))
    raylet = next(pid for pid, title in descendants(running.pid).items() if "/raylet/raylet" in title)
    environment = dict(pair.split("=", 1) for pair in Path(f"/proc/{raylet}/environ").read_text().split("\0") if pair)
    ask = [sys.executable, "-c", ASK, f"127.0.0.1:{port}"]
    for stranger in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guess"}):
        done = subprocess.run(ask, env=without_tokens(**stranger), capture_output=True, text=True, timeout=120)
        assert done.returncode != 0
        assert "AuthenticationError" in done.stderr or "Unauthenticated" in done.stderr, done.stderr
    friend = {name: environment[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    done = subprocess.run(ask, env=without_tokens(**friend), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    running.terminate()
    finish(running)
