"""Reads a live run from `postmean serve`, at http:// or, behind a proxy, https://."""

import re
from datetime import timedelta
from urllib.parse import urlsplit

import obstore
from obstore.store import HTTPStore

from postmean.base.errors import ConfigError, StorageError
from postmean.storage.backoff import deadline_seconds
from postmean.storage.object_errors import Missing, Unsatisfiable, translate
from postmean.storage.object_requests import ObjectRequests
from postmean.storage.serve_token import TOKEN_PATH, find_token
from postmean.storage.storage import check_path

_REQUEST_SECONDS = 60.0
"""Timeout of one request; the server answers within half of it, whether the shard is there or not."""


class HttpReader:
    """Reads objects at URLs below `url`. Transient errors are retried as for object stores.

    Raises:
        ConfigError: the URL has a user, password, query or fragment, or no host; or there is no valid token.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query or parts.fragment or not parts.hostname:
            raise ConfigError(f"{parts.scheme}:// URL: expected {parts.scheme}://host:port, with no user or query")
        self.url = url.rstrip("/")
        seconds = deadline_seconds()
        self._store = HTTPStore.from_url(
            self.url,
            client_options={
                "timeout": timedelta(seconds=_REQUEST_SECONDS),
                "connect_timeout": timedelta(seconds=5),
                "allow_http": True,
                "default_headers": {"Authorization": f"Bearer {find_token()}"},
            },
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=_REQUEST_SECONDS)},
        )
        self._requests = ObjectRequests(self._store, self.url, seconds, self._translate)

    def get(self, path: str) -> bytes:
        return self._requests.get(path)

    def get_range(self, path: str, start: int, length: int) -> bytes:
        return self._requests.get_range(path, start, length)

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
        if status and status[1] in ("401", "403"):
            return StorageError(f"{self.url}: it refuses the token: set {TOKEN_PATH} to the server's file")
        cause = re.search(r"shard failed: ([^\n]*)", str(error))
        if cause:
            return StorageError(f"{self.url}: a shard could not be made: {cause[1].strip()}")
        return translate(error, self.url)
