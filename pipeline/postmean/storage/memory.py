"""Storage in this process's memory, used by live runs."""

from collections.abc import Callable, Iterator
from pathlib import Path

from postmean.base.errors import ShardError
from postmean.storage.storage import check_path


class MemoryStorage:
    """Objects in a dictionary; other threads may read at the same time. `url` only names it in errors."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.url = "memory://live"
        self.files = {} if files is None else dict(files)

    def put(self, path: str, data: bytes) -> None:
        self.files[check_path(path)] = data

    def put_file(self, path: str, file: Path, progress: Callable[[int], None] = lambda done: None) -> None:
        self.put(path, file.read_bytes())
        progress(len(self.files[path]))

    def create(self, path: str, data: bytes) -> bool:
        return self.files.setdefault(check_path(path), data) is data

    def get(self, path: str) -> bytes:
        if check_path(path) not in self.files:
            raise ShardError(f"{self.url}/{path}: missing")
        return self.files[path]

    def get_range(self, path: str, start: int, length: int) -> bytes:
        part = self.get(path)[start : start + length]
        if len(part) < length:
            raise ShardError(f"{self.url}/{path}: ends {length - len(part)} bytes early")
        return part

    def exists(self, path: str) -> bool:
        return check_path(path) in self.files

    def size(self, path: str) -> int:
        return len(self.get(path))

    def list(self, prefix: str) -> list[str]:
        below = f"{check_path(prefix)}/" if prefix else ""
        return sorted(path for path in tuple(self.files) if path.startswith(below))

    def each(self, prefix: str) -> Iterator[str]:
        return iter(self.list(prefix))

    def delete(self, path: str) -> None:
        self.files.pop(check_path(path), None)

    def clean_temporary(self) -> int:
        """Nothing to do: no object is ever half-written."""
        return 0
