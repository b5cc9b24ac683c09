"""Connections of the live server: uvicorn's HTTP/1.1 with the limits that it lacks.

uvicorn waits for a request's head, and for a reader to read, for as long as it takes. Here a connection that has not
shown the token is a stranger. There are few strangers at a time and none stays long, so they cannot keep out a reader
that has the token.
"""

import asyncio
import ssl
from collections import Counter
from dataclasses import dataclass
from typing import Any

from postmean.base.extras import needs

with needs("generate"):
    from uvicorn import Config
    from uvicorn.protocols.http.h11_impl import H11Protocol
    from uvicorn.server import ServerState


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the live server grants to connections."""

    strangers: int = 128
    """Connections without the token at a time. One more, and the oldest of the address with the most is closed."""
    readers: int = 512
    """Connections that have shown the token; more are told to come again."""
    head_bytes: int = 16 << 10
    """Longest head of a request: request line and header."""
    head_seconds: float = 10.0
    """From the start of a connection, TLS handshake included, to the end of the first request's head."""
    idle_seconds: float = 60.0
    """From an answer to the next request of a reader."""
    hold_seconds: float = 20.0
    """How long a request waits for its shard; after that the reader asks again."""
    send_seconds: float = 60.0
    """To send an answer: the reader's own limit (`_REQUEST_SECONDS` in storage/http.py)."""


class Gate:
    """Who is connected: strangers, and readers that have shown the token."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._strangers: dict[Connection, str] = {}  # address of each; the oldest is first
        self._readers: set[Connection] = set()

    def enter(self, connection: "Connection", address: str) -> None:
        """A stranger connects; if there are too many, another one is cut off."""
        self._strangers[connection] = address
        if len(self._strangers) > self.limits.strangers:
            busiest, _ = Counter(self._strangers.values()).most_common(1)[0]
            oldest = next(c for c, address in self._strangers.items() if address == busiest)
            self.leave(oldest)
            oldest.abort()

    def admit(self, connection: "Connection") -> bool:
        """The connection has shown the token; False if it was cut off or there are too many readers."""
        if connection in self._strangers and len(self._readers) < self.limits.readers:
            del self._strangers[connection]
            self._readers.add(connection)
        return connection in self._readers

    def leave(self, connection: "Connection") -> None:
        """The connection ended."""
        self._strangers.pop(connection, None)
        self._readers.discard(connection)


class Connection(H11Protocol):
    """One connection. Requests find it in their ASGI scope, as `scope["state"]["connection"]`.

    A subclass sets `gate` and `tls`. A connection is aborted unless a request from it arrives whole and with the token
    before the deadline.
    """

    gate: Gate
    tls: ssl.SSLContext | None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state | {"connection": self}, _loop)
        self.lost = asyncio.Event()  # set at the end of the connection
        self._deadline: asyncio.TimerHandle | None = None
        self._early = b""  # arrived between the handshake and `connection_made` of uvicorn

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._socket = transport
        self.connections.add(self)
        self.gate.enter(self, str(transport.get_extra_info("peername", "?")[0]))
        self._abort_after(self.gate.limits.head_seconds)
        if self.tls is None:
            super().connection_made(transport)
        else:
            self._handshake = self.loop.create_task(self._secure(transport, self.tls))

    async def _secure(self, transport: asyncio.Transport, tls: ssl.SSLContext) -> None:
        """The TLS handshake. It runs here, not in the listening socket: there no limit would apply to it."""
        seconds = self.gate.limits.head_seconds
        try:
            secured = await self.loop.start_tls(
                transport,
                self,
                tls,
                server_side=True,
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=seconds,
            )
        except OSError:  # not TLS, or gone
            return self._end()
        if secured is None or transport.is_closing():
            return self._end()
        super().connection_made(secured)
        if self._early:
            super().data_received(self._early)

    def data_received(self, data: bytes) -> None:
        if self.transport is None:
            self._early += data
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        if self.transport is not None:
            super().connection_lost(exc)
        self.lost.set()

    def admit(self) -> bool:
        """The request that arrived has the token: no deadline until `answered`; False if there are too many readers."""
        if not self.gate.admit(self):
            return False
        self._stop_deadline()
        return True

    def answered(self) -> None:
        """The answer is on its way: the next request is awaited. uvicorn closes an idle connection somewhat earlier."""
        self._abort_after(self.gate.limits.idle_seconds + self.gate.limits.head_seconds)

    def abort(self) -> None:
        """Close at once, whatever the other side has not read yet."""
        self._socket.abort()

    def shutdown(self) -> None:
        """The server stops: readers ask again, here or at its successor."""
        self.abort()

    def _abort_after(self, seconds: float) -> None:
        self._stop_deadline()
        if not self._socket.is_closing():
            self._deadline = self.loop.call_later(seconds, self.abort)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _end(self) -> None:
        self._stop_deadline()
        self.gate.leave(self)
        self.connections.discard(self)
