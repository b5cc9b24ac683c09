"""A stand-in for the Hugging Face hub: the answers to what `hf://` asks, for one data set."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

REPO = "user/photos"
_COMMIT = "0" * 40


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[str]:
    """Address of a hub whose data set REPO has these files."""
    answers = type("Answers", (_Answers,), {"held": _Held(files)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class _Held:
    """The files of the data set, as the hub lists them."""

    files: dict[str, bytes]

    def folders(self) -> set[str]:
        return {name.rpartition("/")[0] for name in self.files if "/" in name}

    def entry(self, name: str) -> dict[str, object]:
        is_file = name in self.files
        size = len(self.files[name]) if is_file else 0
        return {"type": "file" if is_file else "directory", "oid": _COMMIT, "size": size, "path": name}

    def tree(self, inside: str, recursive: bool) -> list[dict[str, object]]:
        prefix = f"{inside}/" if inside else ""
        found = [name for name in [*self.files, *sorted(self.folders())] if name.startswith(prefix)]
        return [self.entry(name) for name in found if recursive or "/" not in name[len(prefix) :]]

    def entries(self, paths: list[str]) -> list[dict[str, object]]:
        return [self.entry(path) for path in paths if path in self.files or path in self.folders()]


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    held: _Held

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        is_form = "form" in self.headers["Content-Type"]  # as clients before 1.0 ask
        paths = parse_qs(asked).get("paths", []) if is_form else json.loads(asked)["paths"]
        self._send(json.dumps(self.held.entries(paths)).encode())

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith(f"/datasets/{REPO}/resolve/"):
            self._file(path.split("/", 6)[6])
        elif path.startswith(f"/api/datasets/{REPO}/tree/"):
            inside = path.partition("/tree/")[2].partition("/")[2]
            self._send(json.dumps(self.held.tree(inside, "recursive=true" in self.path.lower())).encode())
        elif path.startswith(f"/api/datasets/{REPO}"):
            self._send(json.dumps({"id": REPO, "sha": _COMMIT, "siblings": []}).encode())
        else:
            self._send(b'{"error": "no such repo"}', status=404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def _file(self, name: str) -> None:
        data = self.held.files[name]
        about = {"X_Repo_Commit": _COMMIT, "ETag": f'"{hash(data)}"', "Accept_Ranges": "bytes"}
        span = self.headers.get("Range", "")
        if not span:
            self._send(data, "application/octet-stream", **about)
            return
        start, _, stop = span.removeprefix("bytes=").partition("-")
        part = data[int(start) : int(stop) + 1 if stop else None]
        about["Content_Range"] = f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}"
        self._send(part, "application/octet-stream", 206, **about)

    def _send(self, data: bytes, kind: str = "application/json", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
