"""The storage at a path or URL."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from postmean.base.errors import ConfigError
from postmean.storage.storage import Storage

OBJECT_STORES = ("s3", "gs", "az")


def open_storage(url: str | Path) -> Storage:
    """The storage at a folder's path, or at a `file://`, `s3://`, `gs://` or `az://` URL.

    A folder need not exist before the first write; a bucket must. `http://` and `https://` are live runs, to be read.

    Raises:
        ConfigError: a URL of a kind that cannot be written.
    """
    from postmean.storage.local import LocalStorage

    if isinstance(url, Path) or "://" not in url:
        return LocalStorage(Path(url))
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return LocalStorage(Path(unquote(parts.path)))
    if parts.scheme in OBJECT_STORES:
        from postmean.storage.object_store import ObjectStorage

        return ObjectStorage(url)
    if parts.scheme in ("http", "https"):
        from postmean.storage.http import HttpStorage

        return HttpStorage(url)
    raise ConfigError(
        f"{parts.scheme}://: no storage of this kind: pass the path of a folder, or one of "
        f"{', '.join(f'{scheme}://' for scheme in OBJECT_STORES)}"
    )
