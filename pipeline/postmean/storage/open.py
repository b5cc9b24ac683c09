"""The storage at a path or URL."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from postmean.base.errors import ConfigError
from postmean.base.paths import local_path
from postmean.storage.storage import Reader, Storage

OBJECT_STORES = ("s3", "gs", "az")


def open_storage(url: str | Path) -> Storage:
    """The storage at a folder's path, or at a `file://`, `s3://`, `gs://` or `az://` URL.

    A folder need not exist before the first write; a bucket must.

    Raises:
        ConfigError: a URL of another kind, or the URL of a live run, which is read-only; or no path (see `local_path`).
    """
    storage = open_reader(url)
    if not isinstance(storage, Storage):
        raise ConfigError(f"{storage.url}: a live run: pass --follow-seconds, such as 600, to wait for its shards")
    return storage


def open_existing(url: str | Path) -> Storage:
    """Like `open_storage`, for what a command only looks at: a folder must be there.

    Raises:
        ConfigError: also if there is no such folder.
    """
    from postmean.storage.local import LocalStorage

    storage = open_storage(url)
    if isinstance(storage, LocalStorage) and not os.path.isdir(storage.url):
        raise ConfigError(f"{url}: no such folder: pass the folder or URL of a run")
    return storage


def open_reader(url: str | Path, is_live: bool = True) -> Reader:
    """Like `open_storage`, for reading only: also opens `http://` and `https://` URLs.

    Args:
        is_live: whether these are of live runs, which ask for a token.
    """
    from postmean.storage.local import LocalStorage

    if isinstance(url, Path) or "://" not in url:
        return LocalStorage(local_path(url))
    try:
        parts = urlsplit(url)
    except ValueError as error:  # the URL is not shown: it may hold a password
        raise ConfigError(f"{url.partition('://')[0]}:// URL: {error}: correct it") from error
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return LocalStorage(Path(unquote(parts.path)))
    if parts.scheme in OBJECT_STORES:
        from postmean.storage.object_store import ObjectStorage

        return ObjectStorage(url)
    if parts.scheme in ("http", "https"):
        from postmean.storage.http import HttpReader

        return HttpReader(url, is_live)
    raise ConfigError(
        f"{parts.scheme}://: no storage of this kind: pass the path of a folder, or one of "
        f"{', '.join(f'{scheme}://' for scheme in OBJECT_STORES)}"
    )
