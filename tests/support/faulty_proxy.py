"""An HTTP proxy on this machine, in front of an object store, that answers a share of the requests wrongly."""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Fault = str | tuple[int, bytes] | None
FAULTS = ("503", "503 after", "429", "reset", "reset after", "cut", "slow")
"""Kinds of faults; `after`: the store did what was asked, only the answer is lost."""


@contextmanager
def faulty_proxy(
    upstream: str, choose: Callable[[BaseHTTPRequestHandler], Fault], slow_seconds: float = 3.0
) -> Iterator[tuple[str, Counter]]:
    """Endpoint of the proxy, and how often each fault was injected.

    Args:
        choose: gives the fault of a request, or None; a (status, body) is sent as the answer.
    """
    host = urlsplit(upstream).netloc
    injected: Counter = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self._body()
            fault = choose(self)
            injected[fault or "none"] += 1
            if isinstance(fault, tuple):
                return self._answer(fault[0], {}, fault[1])
            if fault in ("503", "429"):
                return self._answer(int(fault), {}, b"<Error><Code>SlowDown</Code></Error>")
            if fault == "reset":
                return self._reset()
            if fault == "slow":
                time.sleep(slow_seconds)
            connection = http.client.HTTPConnection(host, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if fault == "503 after":
                return self._answer(503, {}, b"")
            if fault == "reset after":
                return self._reset()
            headers = {k: v for k, v in answer.getheaders() if k.lower() not in ("connection", "transfer-encoding")}
            if fault == "cut" and content:
                self._answer(
                    answer.status, headers | {"Content-Length": str(len(content))}, content[: len(content) // 2]
                )
                return self._reset()
            self._answer(answer.status, headers, content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                raise NotImplementedError("the client sends lengths")
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response_only(status)
            names = {name.lower() for name in headers}
            for name, value in headers.items():
                self.send_header(name, value)
            if "content-length" not in names:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _reset(self) -> None:
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

        def handle(self) -> None:
            with suppress(OSError):  # the client gave up
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
            self.close_request(request)  # no FIN before the reset

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", injected
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def share_of(share: float, faults: tuple[str, ...] = FAULTS, seed: int = 0) -> Callable[[object], Fault]:
    """Chooses a random one of `faults` for this share of the requests."""
    rng = random.Random(seed)
    lock = threading.Lock()

    def choose(_: object) -> Fault:
        with lock:
            return rng.choice(faults) if rng.random() < share else None

    return choose
