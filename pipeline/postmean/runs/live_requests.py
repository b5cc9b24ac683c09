"""Requests to the live server, as an ASGI application: GET and HEAD of a live run's files, with the token, no body."""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from http import HTTPStatus
from typing import Any, NamedTuple

from postmean.base.errors import GenerationError
from postmean.runs.live_connections import Connection, Limits
from postmean.runs.live_shards import LiveShards

_CHUNK = 1 << 20  # bytes handed to the connection at once
_SAID_WITH = {
    HTTPStatus.UNAUTHORIZED: ((b"www-authenticate", b"Bearer"),),
    HTTPStatus.METHOD_NOT_ALLOWED: ((b"allow", b"GET, HEAD"),),
}
_NO_STORE = (b"cache-control", b"no-store")


class _Answer(NamedTuple):
    status: HTTPStatus
    body: bytes = b""
    header: tuple[tuple[bytes, bytes], ...] = ()


class LiveRequests:
    """The application.

    Args:
        files: manifest, plan and certificate by path.
        shards: source of all other files.
        waiting: runs the reads, which wait for shards.
    """

    def __init__(
        self, files: dict[str, bytes], shards: LiveShards, token: str, limits: Limits, waiting: Executor
    ) -> None:
        self._files, self._shards, self._limits, self._waiting = files, shards, limits, waiting
        self._expected = _digest(f"Bearer {token}".encode())

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        connection: Connection = scope["state"]["connection"]
        refusal = self._refusal(scope)
        if refusal is None and not connection.admit():
            refusal = HTTPStatus.SERVICE_UNAVAILABLE
        if refusal is not None:
            return await _send(send, _Answer(refusal, header=((b"connection", b"close"), *_SAID_WITH.get(refusal, ()))))
        try:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._waiting, self._answer, scope["path"][1:], scope["headers"])
            async with asyncio.timeout(self._limits.send_seconds):
                await _send(send, answer, with_body=scope["method"] != "HEAD")
        except TimeoutError:  # a reader that does not read
            connection.abort()
            await connection.lost.wait()  # uvicorn takes an answer that is not complete for a mistake, except then
        finally:
            connection.answered()

    def _refusal(self, scope: dict[str, Any]) -> HTTPStatus | None:
        """Why the request is not answered, None if it is. The token comes first: strangers learn nothing else."""
        shown = _values(scope["headers"], b"authorization")
        if len(shown) != 1 or not hmac.compare_digest(_digest(shown[0]), self._expected):
            return HTTPStatus.UNAUTHORIZED
        if scope["method"] not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED
        # with no body there is nothing that a proxy in front and this server could take for different requests
        lengths = set(_values(scope["headers"], b"content-length"))
        if lengths - {b"0"} or _values(scope["headers"], b"transfer-encoding"):
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        # uvicorn limits a head that comes in parts, not one that comes at once
        lines = sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
        if lines + len(scope["raw_path"]) + len(scope["query_string"]) > self._limits.head_bytes:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        return None

    def _answer(self, path: str, header: list[tuple[bytes, bytes]]) -> _Answer:
        """Find the object; waits for a shard."""
        try:
            data = self._files[path] if path in self._files else self._shards.read(path, self._limits.hold_seconds)
        except GenerationError as error:
            return _Answer(HTTPStatus.UNPROCESSABLE_ENTITY, f"shard failed: {error}\n".encode())
        if data is None:
            # a reader has seen the commit of the shard that it asks for: the shard will come again
            is_late = self._shards.is_data(path)
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE if is_late else HTTPStatus.NOT_FOUND)
        part = re.fullmatch(rb"bytes=(\d{1,18})-(\d{1,18})", b", ".join(_values(header, b"range")))
        if part is None:
            return _Answer(HTTPStatus.OK, data)
        start, last = int(part[1]), min(int(part[2]), len(data) - 1)
        if start > last:
            return _Answer(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, header=((b"content-range", b"bytes */%d" % len(data)),)
            )
        return _Answer(
            HTTPStatus.PARTIAL_CONTENT,
            data[start : last + 1],
            ((b"content-range", b"bytes %d-%d/%d" % (start, last, len(data))),),
        )


def _values(header: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in header if key == name]


def _digest(text: bytes) -> bytes:
    """The comparison of digests takes the same time for tokens of all lengths."""
    return hashlib.sha256(text).digest()


async def _send(send: Callable[[Any], Awaitable[None]], answer: _Answer, with_body: bool = True) -> None:
    """Send in chunks: the connection holds back the next one until the reader has taken most of those before."""
    header = [(b"content-length", b"%d" % len(answer.body)), _NO_STORE, *answer.header]
    await send({"type": "http.response.start", "status": int(answer.status), "headers": header})
    for start in range(0, len(answer.body) if with_body else 0, _CHUNK):
        chunk = answer.body[start : start + _CHUNK]
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await asyncio.sleep(0)  # lets uvicorn notice that the reader has gone
    await send({"type": "http.response.body", "body": b"", "more_body": False})
