"""Serves one page over HTTP while something goes on: GET / alone, made anew when the last one is old."""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any

from postmean.base.errors import ConfigError, PostmeanError
from postmean.base.extras import needs
from postmean.pages.page import Page, Section, policy, render, style

with needs("report"):
    import uvicorn

REFRESH_SECONDS = 5
"""The browser loads the page again after so long."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_STOP_SECONDS = 2


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where to listen."""

    host: str = "127.0.0.1"
    port: int = 8802

    @classmethod
    def parse(cls, text: str) -> "Address":
        """From HOST:PORT, :PORT or HOST; ConfigError for anything else."""
        host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
        if not colon:
            host, port = text, str(cls.port)
        if not port.isdecimal() or int(port) > 65535:
            raise ConfigError(f"--serve {text}: expected HOST:PORT, such as 127.0.0.1:{cls.port}")
        return cls(host=host.strip("[]") or cls.host, port=int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether other machines cannot come here."""
        return self.host in _LOOPBACK


class PageServer:
    """Serves for the duration of a `with` block.

    Args:
        make: makes the page; called by one thread at a time.
    Raises:
        ConfigError: cannot listen there.
    """

    def __init__(self, address: Address, make: Callable[[], Page]) -> None:
        self._address, self._make = address, make
        self._lock, self._made, self._html = Lock(), float("-inf"), b""
        try:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            self._socket = socket.create_server((address.host, address.port), family=family)
        except OSError as error:
            raise ConfigError(
                f"--serve {address.host}:{address.port}: cannot listen there: {error}: pass another"
            ) from error
        host = f"[{address.host}]" if ":" in address.host else address.host
        self.url = f"http://{host}:{self._socket.getsockname()[1]}/"
        """Where the page is."""
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._answer,
                ws="none",
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=64,
                timeout_graceful_shutdown=_STOP_SECONDS,
            )
        )
        # in a thread of its own, uvicorn leaves the signals of the process alone
        self._thread = Thread(target=self._server.run, args=([self._socket],), name="postmean-page", daemon=True)

    def __enter__(self) -> "PageServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(2 * _STOP_SECONDS)

    def wait(self) -> None:
        """Return when the server ends; Ctrl-C raises KeyboardInterrupt."""
        while self._thread.is_alive():
            self._thread.join(1.0)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """The application: see the ASGI specification."""
        status, body = 404, b"only / is here\n"
        headers = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
        if self._address.is_loopback and not _is_local(headers.get(b"host", "")):
            # a page of the web may have its name lead to this machine: its reader must not see the run
            status, body = 403, b"this page is for this machine\n"
        elif scope["method"] not in ("GET", "HEAD"):
            status, body = 405, b"only GET\n"
        elif scope["path"] == "/":
            status, body = 200, await asyncio.to_thread(self._page)
        kind = "text/html" if status == 200 else "text/plain"
        sent = {
            "content-type": f"{kind}; charset=utf-8",
            "content-length": str(len(body)),
            "content-security-policy": f"{policy(style())}; frame-ancestors 'none'",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
        }
        pairs = [(name.encode(), value.encode()) for name, value in sent.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    def _page(self) -> bytes:
        with self._lock:
            began = time.monotonic()
            if began - self._made >= REFRESH_SECONDS - 1:
                self._html = render(self._made_page(), REFRESH_SECONDS)
                # a page that takes long to make is made less often
                self._made = time.monotonic() + 4 * (time.monotonic() - began)
            return self._html

    def _made_page(self) -> Page:
        try:
            return self._make()
        except PostmeanError as error:
            sections = [Section(title="This page cannot be made now", text=str(error))]
            return Page(title="postmean", state="error", sections=sections, footer="It is tried again.")


def _is_local(host: str) -> bool:
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name.strip("[]") in _LOOPBACK
