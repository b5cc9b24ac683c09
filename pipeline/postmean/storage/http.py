"""Reads at http:// and https://: a live run from `postmean serve`, or the files of any server."""

import ipaddress
import re
import socket
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import HTTPStore

from postmean.base.errors import ConfigError, StorageError
from postmean.storage.backoff import deadline_seconds
from postmean.storage.object_errors import Missing, Unsatisfiable, translate
from postmean.storage.object_requests import ObjectRequests
from postmean.storage.serve_token import TOKEN_PATH, find_token
from postmean.storage.storage import check_path

_REQUEST_SECONDS = 60.0
"""Timeout of one request; the server begins to answer within half of it, whether the shard is there or not."""
_IDLE_SECONDS = 30.0
"""After this a connection is not used again: the server closes it somewhat later, and a request could cross that."""
_NO_PROXY = {"proxy_url": "http://127.0.0.1:9", "proxy_excludes": "*,0.0.0.0/0,::/0"}
"""Client options: a proxy that no name or address takes. It replaces those of the environment."""


class HttpReader:
    """Reads objects at URLs below `url`. Transient errors are retried as for object stores.

    Args:
        is_live: whether it is a live run, which asks for a token. No other server is sent one.
    Raises:
        ConfigError: no valid URL, or one with a user, password, query or fragment; or there is no valid token.
    """

    def __init__(self, url: str, is_live: bool = True) -> None:
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query or parts.fragment or not parts.hostname or not url.isprintable():
            raise ConfigError(f"{parts.scheme}:// URL: expected {parts.scheme}://host:port, with no user or query")
        self.url, self._is_live = url.rstrip("/"), is_live
        seconds = deadline_seconds()
        options: Any = {
            "timeout": timedelta(seconds=_REQUEST_SECONDS),
            "connect_timeout": timedelta(seconds=5),
            "pool_idle_timeout": timedelta(seconds=_IDLE_SECONDS),
            "allow_http": True,
        }
        if is_live:
            options["default_headers"] = {"Authorization": f"Bearer {find_token()}"}
        if _is_this_machine(parts.hostname):
            options |= _NO_PROXY
        try:
            self._store = HTTPStore.from_url(
                self.url,
                client_options=options,
                retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=_REQUEST_SECONDS)},
            )
        except (ValueError, BaseError) as error:  # such as a port above 65535
            raise ConfigError(f"{self.url}: {str(error).splitlines()[0]}: correct the URL") from error
        self._requests = ObjectRequests(self._store, self.url, seconds, self._translate)

    def get(self, path: str) -> bytes:
        return self._requests.get(path)

    def get_range(self, path: str, start: int, length: int) -> bytes:
        return self._requests.get_range(path, start, length)

    def size(self, path: str) -> int:
        return self._requests.size(path)

    def exists(self, path: str) -> bool:
        """GETs the first byte: the answer to HEAD has no body that could say why a shard could not be made."""
        check_path(path)
        try:
            self._requests.run(path, lambda _: obstore.get_range(self._store, path, start=0, length=1))
        except Missing:
            return False
        except Unsatisfiable:
            pass  # the object exists and is empty
        return True

    def _translate(self, error: Exception) -> Exception:
        status = re.search(r"status code: (\d{3})", str(error))
        if self._is_live and status and status[1] in ("401", "403"):
            return StorageError(f"{self.url}: it refuses the token: set {TOKEN_PATH} to the server's file")
        distrust = re.search(r"InvalidCertificate\(\s*(\w+)", str(error))
        if distrust:
            return StorageError(
                f"{self.url}: its certificate is not trusted ({distrust[1]}): set SSL_CERT_FILE to a PEM file with the "
                "server's certificate (not one of an authority, for this host, and not expired) or its issuer's"
            )
        if "InvalidContentType" in str(error):
            return StorageError(f"{self.url}: it does not speak TLS: pass http://, or start the server with --tls-key")
        cause = re.search(r"shard failed: ([^\n]*)", str(error))
        if cause:
            return StorageError(f"{self.url}: a shard could not be made: {cause[1].strip()}")
        return translate(error, self.url)


def _is_this_machine(host: str) -> bool:
    """Whether requests to the host stay on this machine: a proxy would look for it on its own."""
    if host.rpartition(".")[2].lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(host))  # short forms, such as 127.1
        except OSError:
            return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified
