"""Token authentication: whoever reaches Ray's ports can run code, unless a token is asked for.

An embedded Ray always asks for a token that only its own processes know, whatever the environment says. For the cluster
at RAY_ADDRESS the environment decides, and says which token. Ray reads these variables once, when it is imported.
"""

import os
import secrets
import sys

from postmean.base.errors import ConfigError

_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_OTHER_WAYS = ("RAY_ENABLE_K8S_TOKEN_AUTH",)
"""Variables that make Ray accept other tokens."""
_own: list[str] = []
"""The token of this process's embedded Rays; Ray keeps the first for all of them."""


def switch_on(address: str | None) -> None:
    """Set the environment for an embedded Ray (None) or a cluster; call it before Ray is imported.

    Raises:
        ConfigError: Ray was imported before without a token, or there is no token for the cluster.
    """
    if address is None:
        _embedded()
    else:
        _cluster(address)


def _embedded() -> None:
    if "ray" in sys.modules and not _own:
        if not _asks_for_token() or not _found():
            raise _too_late()
        return
    if not _own:
        _own.append(secrets.token_hex(32))  # no file holds it: Ray's processes inherit it
    os.environ |= {_MODE: "token", _TOKEN: _own[0]}
    for name in (_TOKEN_PATH, *_OTHER_WAYS):
        os.environ.pop(name, None)


def _cluster(address: str) -> None:
    if "ray" in sys.modules and _MODE not in os.environ:
        raise _too_late()
    os.environ.setdefault(_MODE, "token")
    if _asks_for_token() and not _found():
        raise ConfigError(
            f"RAY_ADDRESS {address}: no token for this cluster: set {_TOKEN_PATH} to a file that holds it, "
            f"or {_MODE}=disabled for a cluster without authentication"
        )


def _asks_for_token() -> bool:
    return os.environ.get(_MODE, "").lower() == "token"


def _too_late() -> ConfigError:
    return ConfigError(
        "ray was imported before postmean could switch its token authentication on: "
        f"set {_MODE}=token and {_TOKEN} in the environment, or import ray later"
    )


def _found() -> bool:
    """Whether there is a token where Ray looks: the first of these that is set, else a file in the home folder."""
    if os.environ.get(_TOKEN, "").strip():
        return True
    path = os.environ.get(_TOKEN_PATH) or os.path.expanduser("~/.ray/auth_token")
    try:
        with open(path, "rb") as file:
            return bool(file.read(4096).strip())
    except OSError:
        return False
