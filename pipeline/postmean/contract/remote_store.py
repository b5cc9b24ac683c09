"""The copy that a node keeps of an image store at a URL.

A store at a URL has the files of a store in a folder; its `header.json` is written last. A node fetches each file once,
into its cache (`storage/node_cache.py`), where all its processes map it: they share its pages. Labels and hashes are
compared with the header's fingerprint, blocks of images with the hashes, files of `index` with their cards. The copy is
named after URL and fingerprint: a store that was replaced is another copy.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from postmean.base.errors import ConfigError, DataError, ShardError
from postmean.base.files import make_folder, write_file
from postmean.base.json_files import JsonError, parse_json, unsealed
from postmean.base.progress import ShowProgress
from postmean.contract.image_blocks import block_count, images_per_block
from postmean.contract.mapped_array import map_array
from postmean.contract.store_header import StoreHeader, array_header, fingerprint_of, parse_header
from postmean.storage.backoff import deadline_seconds
from postmean.storage.fetch import Block, Changed, fetch_blocks, fetch_whole, part_of
from postmean.storage.local import LocalStorage
from postmean.storage.node_cache import CachedFolder, writing
from postmean.storage.open import open_reader, open_storage
from postmean.storage.storage import Reader, Storage

_MB = 1_000_000


def is_store(path: str) -> bool:
    """Whether an image store lies in a folder or at a URL."""
    return open_reader(path, is_live=False).exists("header.json")


def open_remote(url: str, show: ShowProgress) -> "RemoteStore | Path":
    """The store at a URL with its header, labels and hashes on this node; or the folder that a file:// URL means.

    Raises:
        As `ImageStore.open`.
    """
    reader = open_reader(url, is_live=False)
    if isinstance(reader, LocalStorage):
        return Path(reader.url)
    remedy = f"remove it and make it again with `postmean import SOURCE {reader.url}`"
    try:
        data = reader.get("header.json")
    except ShardError as error:
        raise DataError(
            f"{reader.url}: no image store there (no header.json): make one with `postmean import SOURCE {reader.url}`"
        ) from error
    header = parse_header(data, f"{reader.url}/header.json", remedy)
    store = RemoteStore(reader, header.fingerprint, show)
    store.fetch_small_files(data, header, remedy)
    return store


class RemoteStore:
    """A store at a URL and its copy on this node, which is in use as long as this object lives."""

    def __init__(self, reader: Reader, fingerprint: str, show: ShowProgress) -> None:
        self.url = reader.url
        self._reader, self._show = reader, show
        of_url = hashlib.sha256(self.url.encode()).hexdigest()
        self._folder = CachedFolder(f"{self.url.rpartition('/')[2][-50:]}-{of_url[:8]}-{fingerprint[:16]}")
        self.path = self._folder.path
        """Folder of the copy"""

    def fetch_small_files(self, data: bytes, header: StoreHeader, remedy: str) -> None:
        """Bring header, hashes and labels to the copy.

        Args:
            data: the bytes of the header.
        Raises:
            DataError: they do not belong together.
        """
        arrays: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        arrays |= {"block_hashes.npy": (np.dtype(np.uint8), (block_count(header.shape), 32))}
        if header.class_names is not None:
            arrays["labels.npy"] = (np.dtype(np.int64), header.shape[:1])
        local = self.path / "header.json"
        waits = _Waits(part_of(self.path / "labels.npy"), lambda done, note: None)
        with self._folder.fetching(waits.go_on), writing(self.path):
            if not all((self.path / name).is_file() for name in arrays):
                mapped = {}
                for name, (dtype, shape) in arrays.items():
                    part = part_of(self.path / name)
                    part.write_bytes(self._reader.get(name))
                    mapped[name] = map_array(part, dtype, shape, remedy)
                found = fingerprint_of(header.shape, mapped["block_hashes.npy"], mapped.get("labels.npy"))
                if found != header.fingerprint:
                    raise DataError(
                        f"{self.url}: block_hashes.npy or labels.npy does not belong to header.json: run the same "
                        f"command again, as the store may be being replaced, or {remedy}"
                    )
                for name in arrays:
                    part_of(self.path / name).rename(self.path / name)
            if not local.is_file() or local.read_bytes() != data:
                write_file(local, data)

    def fetch_images(self, shape: tuple[int, ...], hashes: np.ndarray) -> None:
        """Bring the images to the copy, unless they are there.

        Raises:
            DataError: the cache has no room for them, or they are not those that were imported.
            StorageError: the object store refuses, or cannot be reached.
        """
        target = self.path / "images.npy"
        if target.is_file():
            return
        head, blocks = array_header(shape), _blocks(shape, hashes)
        size = blocks[-1].start + blocks[-1].length

        def fetch(update: Callable[[int], None]) -> None:
            found = self._reader.size("images.npy")
            if found != size:
                raise Changed(f"{self.url}/images.npy: {found} bytes, expected {size}")
            self._folder.make_room(size - _on_disk(part_of(target)))
            fetch_blocks(self._reader, "images.npy", target, head, blocks, update)

        self._once(target, f"fetch {self.url}", size, fetch)

    def fetch_index(self, name: str) -> None:
        """Bring a file of `index`, with its card, to the copy. Nothing happens if the store has none or the same.

        Raises:
            As `fetch_images`.
        """
        target, path = self.path / "index" / name, f"index/{name}"
        card = target.with_suffix(".json")
        try:
            data = self._reader.get(f"index/{card.name}")
        except ShardError:
            return
        if _is_there(target, card, data):
            return
        try:
            sha256 = unsealed(parse_json(data))["file_sha256"]
        except (JsonError, KeyError) as error:
            raise DataError(f"{self.url}/index/{card.name}: {error}: run `postmean index {self.url}` again") from error
        size = self._reader.size(path)
        with writing(target):
            make_folder(target.parent)

        def fetch(update: Callable[[int], None]) -> None:
            self._folder.make_room(size)
            target.unlink(missing_ok=True)  # of an index that was replaced
            fetch_whole(self._reader, path, target, size, sha256, update)
            with writing(card):
                write_file(card, data)

        self._once(target, f"fetch {name}", size, fetch, lambda: _is_there(target, card, data))

    def index_names(self) -> list[str]:
        """Files in `index`; none where they cannot be listed, as at an http server."""
        if not isinstance(self._reader, Storage):
            return []
        return [path.removeprefix("index/") for path in self._reader.list("index")]

    def check_writable(self) -> None:
        """ConfigError if an index cannot be put beside the store."""
        if not isinstance(self._reader, Storage):
            raise ConfigError(f"{self.url}: an http server takes no files: index the store where it was imported")

    def share_index(self, path: Path) -> None:
        """Put a file of the copy's `index` beside the store, then its card, unless it is there.

        Raises:
            StorageError: the object store refuses, or cannot be reached.
        """
        storage, card = open_storage(self.url), path.with_suffix(".json")
        data = card.read_bytes()
        if storage.exists(f"index/{card.name}") and storage.get(f"index/{card.name}") == data:
            return
        with self._show(f"upload {path.name}", path.stat().st_size // _MB, "MB") as line:
            storage.put_file(f"index/{path.name}", path, lambda done: line.update(done // _MB))
        storage.put(f"index/{card.name}", data)

    def _once(
        self,
        target: Path,
        what: str,
        size: int,
        fetch: Callable[[Callable[[int], None]], None],
        is_there: Callable[[], bool] | None = None,
    ) -> None:
        """Fetch a file, or wait until another process of this node has done it."""
        is_there = is_there or target.is_file
        with self._show(what, size // _MB, "MB") as line:
            waits = _Waits(part_of(target), line.update)
            with self._folder.fetching(waits.go_on):
                if is_there():
                    return
                try:
                    fetch(lambda done: line.update(done // _MB))
                except Changed as error:
                    raise DataError(
                        f"{error}: the store was replaced or is damaged: run the same command again, and if it says "
                        f"the same, import and index {self.url} again"
                    ) from error


class _Waits:
    """Shows how far another process is, and gives it up if nothing comes for twice a storage's deadline."""

    def __init__(self, part: Path, update: Callable[[int, str], None]) -> None:
        self._part, self._update = part, update
        self._seen, self._heard = -1.0, time.monotonic()
        self._patience = 2 * deadline_seconds()

    def go_on(self) -> bool:
        try:
            changed = self._part.stat().st_mtime
        except OSError:
            changed = 0.0
        if changed != self._seen:
            self._seen, self._heard = changed, time.monotonic()
        self._update(_on_disk(self._part) // _MB, "by another process")
        return time.monotonic() - self._heard < self._patience


def _blocks(shape: tuple[int, ...], hashes: np.ndarray) -> list[Block]:
    """Blocks of the images within `images.npy`."""
    dim = int(np.prod(shape[1:]))
    step, begin, end = images_per_block(dim) * dim, len(array_header(shape)), shape[0] * dim
    return [
        Block(begin + start, min(step, end - start), sha256.tobytes())
        for start, sha256 in zip(range(0, end, step), np.asarray(hashes), strict=True)
    ]


def _on_disk(path: Path) -> int:
    """Bytes of an unfinished copy that are there: it has holes."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def _is_there(target: Path, card: Path, data: bytes) -> bool:
    return target.is_file() and card.is_file() and card.read_bytes() == data
