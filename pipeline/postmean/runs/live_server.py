"""The server of a live run: serves its files, and nothing else, over HTTP/1.1 or HTTPS to clients with the token."""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from types import TracebackType

from postmean.base.errors import ConfigError
from postmean.base.extras import needs
from postmean.runs.live_connections import Connection, Gate, Limits
from postmean.runs.live_requests import LiveRequests
from postmean.runs.live_shards import LiveShards

with needs("generate"):
    import uvicorn

_STOP_SECONDS = 5
_ACCEPTED_AT_ONCE = 16
"""Connections accepted before what others have sent is read: far fewer than strangers, so that a crowd that comes at
once does not push out a reader before its token is read."""
_QUEUE = 1024  # connections that the kernel holds until they are accepted


class LiveServer:
    """Serves for the duration of a `with` block; closes the shards at its end.

    Args:
        files: manifest, plan and certificate by path.
        shards: source of all other files.
        token: readers must show it.
        tls: certificate and key; without it all is sent unencrypted.

    Raises:
        ConfigError: cannot listen on this address.
    """

    def __init__(
        self,
        host: str,
        port: int,
        files: dict[str, bytes],
        shards: LiveShards,
        token: str,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._shards, limits = shards, limits or Limits()
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._waiting = ThreadPoolExecutor(limits.readers, "postmean-reader")
        connection = type("Connection", (Connection,), {"gate": Gate(limits), "tls": tls})
        self._server = _Server(
            uvicorn.Config(
                LiveRequests(files, shards, token, limits, self._waiting),
                http=connection,
                ws="none",
                loop="asyncio",
                interface="asgi3",
                lifespan="off",
                backlog=_ACCEPTED_AT_ONCE,
                workers=1,
                log_config=None,
                log_level="error",  # a line per bad request would let strangers fill the log
                access_log=False,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=limits.head_bytes,
                timeout_keep_alive=round(limits.idle_seconds),
                timeout_graceful_shutdown=_STOP_SECONDS,
            )
        )
        self._thread = Thread(target=self._server.run, args=([self._socket],), name="postmean-server", daemon=True)

    def __enter__(self) -> "LiveServer":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        self._shards.close()
        self._server.should_exit = True
        self._thread.join(2 * _STOP_SECONDS)
        self._waiting.shutdown(wait=False, cancel_futures=True)


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(_QUEUE)  # asyncio takes one number for both and has set it to the other


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = min(found, key=lambda one: one[0])  # IPv4 first, where a name has both
        return socket.create_server((address[0], port, *address[2:]), family=family, backlog=_QUEUE)
    except (OSError, OverflowError, ValueError) as error:  # ValueError: not a name
        raise ConfigError(f"--host {host} --port {port}: cannot listen there: {error}: pass others") from error
