"""An import into an object store: imported into this node's cache, then uploaded, the header last.

The same command goes on where an earlier one was stopped: a finished import is not repeated, and a file that was sent
is not sent again.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from postmean.base.errors import ConfigError, DataError
from postmean.base.files import write_file
from postmean.base.json_files import JsonError, parse_json, read_json, to_json
from postmean.base.progress import ShowProgress
from postmean.contract.remote_store import RemoteStore, open_remote
from postmean.importers.config import ImportConfig
from postmean.importers.report import ImportReport
from postmean.storage.node_cache import CachedFolder, writing
from postmean.storage.open import OBJECT_STORES, open_storage
from postmean.storage.storage import Storage

_HEADER = "header.json"
_MB = 1_000_000


def import_to_url(
    config: ImportConfig, import_here: Callable[[ImportConfig], ImportReport], show: ShowProgress
) -> ImportReport:
    """Import into a store at a URL.

    Args:
        import_here: imports into a folder.
    Raises:
        DataError: as for an import into a folder; or the cache has no room.
        StorageError: the object store refuses, or cannot be reached.
        ConfigError: no URL of an object store.
    """
    scheme = str(config.store).partition("://")[0]
    if scheme not in OBJECT_STORES:
        raise ConfigError(f"{scheme}://: no store is made there: pass a folder, or an s3://, gs:// or az:// URL")
    storage = open_storage(str(config.store))
    _check_absent(storage)
    name = hashlib.sha256(json.dumps([storage.url, repr(replace(config, workers=1))]).encode()).hexdigest()[:24]
    folder = CachedFolder(f"import-{name}")
    store, report_file = folder.path / "store", folder.path / "report.json"
    with folder.fetching():
        _check_absent(storage)  # another process may have been faster
        report = _finished(report_file) if store.is_dir() else None
        if report is None:
            shutil.rmtree(store, ignore_errors=True)
            report = import_here(replace(config, store=store))
            write_file(report_file, to_json(report))
        _upload(store, storage, folder.path / "sent.json", show)
        _keep_as_copy(store, storage.url, show)
        shutil.rmtree(folder.path, ignore_errors=True)
    return replace(report, store=storage.url)


def _check_absent(storage: Storage) -> None:
    if storage.exists(_HEADER):
        raise DataError(f"{storage.url}: already there: remove it or import to another URL")


def _finished(report_file: Path) -> ImportReport | None:
    """The report of an import that was finished and not uploaded."""
    with suppress(OSError, JsonError):
        return read_json(ImportReport, report_file.read_bytes(), str(report_file))
    return None


def _upload(store: Path, storage: Storage, sent_file: Path, show: ShowProgress) -> None:
    """Put the store's files, but those sent before, then its header."""
    sizes = {path.name: path.stat().st_size for path in store.iterdir() if path.name != _HEADER}
    sent: list[str] = []
    with suppress(OSError, JsonError):
        sent = list(parse_json(sent_file.read_bytes()))
    with show(f"upload {storage.url}", sum(sizes.values()) // _MB, "MB") as line:
        done = 0
        for name in sorted(sizes, key=lambda name: sizes[name]):
            if name not in sent or not storage.exists(name) or storage.size(name) != sizes[name]:
                storage.put_file(name, store / name, lambda count, before=done: line.update((before + count) // _MB))
                sent.append(name)
                write_file(sent_file, to_json(sent))
            done += sizes[name]
            line.update(done // _MB)
    if not storage.create(_HEADER, (store / _HEADER).read_bytes()):
        raise DataError(f"{storage.url}: another import has made it meanwhile: import to another URL")


def _keep_as_copy(store: Path, url: str, show: ShowProgress) -> None:
    """Make the imported files this node's copy of the store: it need not fetch them."""
    copy = open_remote(url, show)
    assert isinstance(copy, RemoteStore)
    with writing(copy.path):
        os.replace(store / "images.npy", copy.path / "images.npy")
