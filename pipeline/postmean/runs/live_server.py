"""The server of a live run: serves its files, and nothing else, over HTTP/1.1 to clients that show the token."""

import hmac
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from urllib.parse import unquote

from postmean.base.errors import ConfigError, GenerationError
from postmean.runs.live_shards import LiveShards

_HOLD_SECONDS = 20.0
"""How long a request waits for its shard; after that the reader asks again."""


class LiveServer:
    """Serves for the duration of a `with` block.

    Args:
        files: manifest, plan and certificate by path.
        shards: source of all other files.
        token: readers must show it.

    Raises:
        ConfigError: cannot listen on this address.
    """

    def __init__(self, host: str, port: int, files: dict[str, bytes], shards: LiveShards, token: str) -> None:
        expected = f"Bearer {token}".encode()

        class Handler(_Handler):
            def is_allowed(self) -> bool:
                shown = self.headers.get("Authorization", "").encode("latin-1", "replace")
                return hmac.compare_digest(shown, expected)

            def find(self, path: str) -> bytes | None:
                return files[path] if path in files else shards.read(path, _HOLD_SECONDS)

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"--host {host} --port {port}: cannot listen there: {error}: pass others") from error
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> "LiveServer":
        Thread(target=self._server.serve_forever, name="postmean-server", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120  # seconds a connection may be idle

    def is_allowed(self) -> bool:
        """Whether the request shows the token."""
        raise NotImplementedError

    def find(self, path: str) -> bytes | None:
        """The object with this path, None if there is none."""
        raise NotImplementedError

    def do_GET(self) -> None:
        if not self.is_allowed():
            return self._answer(HTTPStatus.UNAUTHORIZED, b"")
        try:
            data = self.find(unquote(self.path.lstrip("/")))
        except GenerationError as error:
            return self._answer(HTTPStatus.UNPROCESSABLE_ENTITY, f"shard failed: {error}\n".encode())
        if data is None:
            return self._answer(HTTPStatus.NOT_FOUND, b"")
        part = re.fullmatch(r"bytes=(\d{1,18})-(\d{1,18})", self.headers.get("Range", ""))
        if part is None:
            return self._answer(HTTPStatus.OK, data)
        start, last = int(part[1]), min(int(part[2]), len(data) - 1)
        if start > last:
            return self._answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"")
        self._answer(HTTPStatus.PARTIAL_CONTENT, data[start : last + 1], f"bytes {start}-{last}/{len(data)}")

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, data: bytes, part: str = "") -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if part:
                self.send_header("Content-Range", part)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
        except OSError:  # the reader has gone
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a line per request is useless."""
