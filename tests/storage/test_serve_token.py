"""The token of a live run: from a private file or the environment, never one that can be guessed."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from postmean.base.errors import ConfigError
from postmean.storage.serve_token import find_or_make_token, find_token, token_place


@pytest.fixture(params=["POSTMEAN_TOKEN", "POSTMEAN_TOKEN_PATH"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The variable that gives the token; the other one is not set, or names a missing file."""
    monkeypatch.delenv("POSTMEAN_TOKEN", raising=False)
    monkeypatch.setenv("POSTMEAN_TOKEN_PATH", str(tmp_path / "token"))
    return request.param


@pytest.fixture
def give(source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Sets the token through `source`."""

    def put(token: str) -> None:
        if source == "POSTMEAN_TOKEN":
            monkeypatch.setenv(source, token)
        else:
            (tmp_path / "token").touch(0o600)
            (tmp_path / "token").write_text(token)

    return put


@pytest.mark.parametrize("token", ["k7!", "fifteen letters", "sixteen letters\x07", "sixteen lettérs."])
def test_what_is_short_or_not_printable_is_refused_wherever_it_is(
    source: str, give: Callable[[str], None], token: str, tmp_path: Path
) -> None:
    give(token)
    where = source if source == "POSTMEAN_TOKEN" else tmp_path / "token"
    for find in (find_token, find_or_make_token):
        with pytest.raises(ConfigError) as error:
            find()
        assert str(error.value).startswith(f"{where}: not a token: expected at least 16 printable ASCII characters")
        assert token not in str(error.value)


def test_what_is_long_enough_is_taken(give: Callable[[str], None]) -> None:
    give("sixteen letters.\n")
    assert find_token() == find_or_make_token() == "sixteen letters."


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the token is looked for; nothing is there yet."""
    monkeypatch.delenv("POSTMEAN_TOKEN", raising=False)
    monkeypatch.setenv("POSTMEAN_TOKEN_PATH", str(tmp_path / "new" / "token"))
    return tmp_path / "new" / "token"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_token_that_was_made_is_found_again_and_nobody_else_may_read_it(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert find_or_make_token() == find_token()
    finally:
        os.umask(before)
    assert len(find_token()) == 64
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o077 == 0
    assert token_place() == str(path)
    assert list(path.parent.iterdir()) == [path]


RACE = """
import os, sys
from pathlib import Path
from postmean.storage.serve_token import TOKEN_PATH, find_or_make_token

for round in range(15):
    os.environ[TOKEN_PATH] = f"{sys.argv[1]}/{round}/token"
    start, go = os.pipe()
    result, report = os.pipe()
    for _ in range(6):
        if not os.fork():
            os.close(go)
            os.read(start, 1)  # until the parent closes `go`
            try:
                os.write(report, (find_or_make_token() + "\\n").encode())
            except BaseException as error:
                os.write(report, f"{error!r}\\n".encode())
            os._exit(0)
    os.close(report)
    os.close(go)
    tokens = os.fdopen(result).read().split("\\n")[:-1]
    os.close(start)
    assert len(tokens) == 6 and len(set(tokens)) == 1, tokens
    assert [path.name for path in Path(sys.argv[1], str(round)).iterdir()] == ["token"]
"""


def test_servers_that_start_at_the_same_time_share_one_token(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", RACE, str(path.parent)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_hard_links_it_is_as_private(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    assert find_or_make_token() == find_token()
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_of_text_is_refused_in_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    os.mkfifo(path.parent / "pipe")
    (path.parent / "folder").mkdir()
    for name, content in (("long", b"a" * 5000), ("bytes", bytes(range(256))), ("empty", b"")):
        (path.parent / name).touch(0o600)
        (path.parent / name).write_bytes(content)
    for place in ("pipe", "folder", "long", "bytes", "empty", "bytes/below", "/dev/zero", "/dev/null", "x" * 300):
        monkeypatch.setenv("POSTMEAN_TOKEN_PATH", str(path.parent / place))
        for find in (find_token, find_or_make_token):
            with pytest.raises(ConfigError) as error:
                find()
            assert place in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_is_an_error_that_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTMEAN_TOKEN", raising=False)
    monkeypatch.setenv("POSTMEAN_TOKEN_PATH", "/proc/postmean/token")
    with pytest.raises(ConfigError, match=r"cannot write a token there .*: set POSTMEAN_TOKEN_PATH"):
        find_or_make_token()


def test_a_tilde_is_the_home_folder_and_none_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("POSTMEAN_TOKEN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for value, place in (("", ".postmean/token"), ("~/secrets/token", "secrets/token")):
        monkeypatch.setenv("POSTMEAN_TOKEN_PATH", value)
        find_or_make_token()
        assert (tmp_path / place).is_file()
    monkeypatch.setenv("POSTMEAN_TOKEN_PATH", "~nobody-of-this-name/token")
    with pytest.raises(ConfigError, match=r"no home folder .*: set POSTMEAN_TOKEN_PATH"):
        find_token()
