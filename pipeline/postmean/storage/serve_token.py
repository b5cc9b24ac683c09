"""The token that readers of a live run send to `postmean serve`, from a file of mode 0600 or the environment."""

import os
import secrets
import stat
from pathlib import Path

from postmean.base.errors import ConfigError

TOKEN, TOKEN_PATH = "POSTMEAN_TOKEN", "POSTMEAN_TOKEN_PATH"
"""Environment variables: the token itself, or the file that holds it."""
_SHORTEST = 16


def token_file() -> Path:
    """Path of the token file, which is used unless POSTMEAN_TOKEN holds the token."""
    return Path(os.environ.get(TOKEN_PATH) or Path.home() / ".postmean" / "token")


def find_token() -> str:
    """The token.

    Raises:
        ConfigError: there is none, it is not a valid token, or others may access its file.
    """
    token = os.environ.get(TOKEN, "").strip()
    if token:
        return _checked(token, TOKEN)
    path = token_file()
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"{path}: others may read it: chmod 600 it")
        token = path.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"{path}: no token of a live run ({error.strerror}): copy the file that `postmean serve` names, or set "
            f"{TOKEN_PATH} to where it is"
        ) from error
    return _checked(token, str(path))


def find_or_make_token() -> str:
    """The token; if there is none, a random one of 256 bits is written first."""
    path = token_file()
    if not os.environ.get(TOKEN) and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
    return find_token()


def _checked(token: str, where: str) -> str:
    if not token.isascii() or not token.isprintable() or len(token) < _SHORTEST:
        raise ConfigError(
            f"{where}: not a token: expected at least {_SHORTEST} printable ASCII characters, got fewer or others: "
            "take the server's, or a longer one for both"
        )
    return token
