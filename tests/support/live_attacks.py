"""A live server to attack, and what its attackers use: plain sockets."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.runs import PATIENCE

TOKEN = "a token of the tests"
SECRET = b"the manifest"
FILES = {"manifest.json": SECRET, "certified_sigma.npy": b"", "plan.parquet": bytes(20 << 20) + b"end"}
WITH_TOKEN = f"Host: a\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
GET = b"GET /manifest.json HTTP/1.1\r\n" + WITH_TOKEN + b"\r\n"


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


@contextmanager
def crowd(port: int, size: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections at once, each of which sends `first` and nothing more."""
    sockets = []
    try:
        for _ in range(size):
            sockets.append(connect(port))
            if first:
                sockets[-1].sendall(first)
        yield sockets
    finally:
        for one in sockets:
            one.close()


def exchange(port: int, *parts: bytes) -> bytes:
    """Everything that the server answers to these bytes until it closes the connection."""
    with connect(port) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:  # it has closed the connection already
            pass
        return until_closed(connection)


def until_closed(connection: socket.socket) -> bytes:
    """Everything that arrives until the server closes the connection."""
    received = b""
    try:
        while data := connection.recv(1 << 16):
            received += data
    except ConnectionError:
        pass
    return received


def statuses(answer: bytes) -> list[int]:
    """Status of each response in what a server answered. No body of the tests looks like a status line."""
    return [int(part[1:4]) for part in answer.split(b"HTTP/1.1")[1:]]


def established(port: int) -> set[int]:
    """Ports of those whose connection to this port is established at the server's end, by the kernel's table."""
    rows = [line.split()[1:4] for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return {
        int(remote.partition(":")[2], 16)
        for local, remote, state in rows
        if state == "01" and int(local.partition(":")[2], 16) == port
    }
