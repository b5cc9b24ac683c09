"""The token of a live run: from a private file or the environment, never one that can be guessed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from postmean.base.errors import ConfigError
from postmean.storage.serve_token import find_or_make_token, find_token


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


def test_a_token_that_was_made_is_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("POSTMEAN_TOKEN", raising=False)
    monkeypatch.setenv("POSTMEAN_TOKEN_PATH", str(tmp_path / "new" / "token"))
    assert find_or_make_token() == find_token()
    assert len(find_token()) == 64
