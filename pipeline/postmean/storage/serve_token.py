"""The token that readers of a live run send to `postmean serve`, from a file of mode 0600 or the environment."""

import os
import secrets
import stat
from pathlib import Path

from postmean.base.errors import ConfigError
from postmean.base.files import create_file

TOKEN, TOKEN_PATH = "POSTMEAN_TOKEN", "POSTMEAN_TOKEN_PATH"
"""Environment variables: the token itself, or the file that holds it."""
_SHORTEST, _LONGEST = 16, 4096  # characters


def find_token() -> str:
    """The token.

    Raises:
        ConfigError: there is none, it is not a valid token, or others may access its file.
    """
    given = _given()
    if given:
        return _checked(given.encode(errors="surrogateescape"), TOKEN)
    path = _token_file()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would block
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{path}: not a regular file: set {TOKEN_PATH} to the token's file")
            if stat.S_IMODE(mode) & 0o077:
                raise ConfigError(f"{path}: others may read it: chmod 600 it")
            return _checked(file.read(_LONGEST + 1).strip(), str(path))
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        raise ConfigError(
            f"{path}: no token of a live run ({_reason(error)}): copy the file that `postmean serve` names, or set "
            f"{TOKEN_PATH} to where it is"
        ) from error


def find_or_make_token() -> str:
    """The token; if there is none, a random one of 256 bits is written first. Servers that race share one."""
    if not _given():
        path = _token_file()
        try:
            if not path.exists():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                create_file(path, f"{secrets.token_hex(32)}\n".encode(), mode=0o600)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{path}: cannot write a token there ({_reason(error)}): set {TOKEN_PATH} to a file in a folder that "
                "can be written"
            ) from error
    return find_token()


def token_place() -> str:
    """Where the token is: the name of the environment variable that holds it, or the path of its file."""
    return TOKEN if _given() else str(_token_file())


def _given() -> str:
    return os.environ.get(TOKEN, "").strip()


def _token_file() -> Path:
    try:
        return Path(os.environ.get(TOKEN_PATH) or "~/.postmean/token").expanduser()
    except RuntimeError as error:
        raise ConfigError(f"no home folder for the token of a live run: set {TOKEN_PATH} to its file") from error


def _reason(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _checked(token: bytes, where: str) -> str:
    text = token.decode("latin-1")
    if not text.isascii() or not text.isprintable() or not _SHORTEST <= len(text) <= _LONGEST:
        raise ConfigError(
            f"{where}: not a token: expected at least {_SHORTEST} printable ASCII characters, got fewer or others: "
            "take the server's, or a longer one for both"
        )
    return text
