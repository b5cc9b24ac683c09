"""The fsspec file system of a URL, for reading what other programs wrote there.

`s3://`, `gs://` and `az://` are read by obstore, with the same settings as targets; all others by fsspec's own.
"""

from typing import Any

from postmean.base.errors import ConfigError
from postmean.base.extras import needs
from postmean.base.one_line import brief
from postmean.storage.open import OBJECT_STORES


def open_filesystem(scheme: str) -> Any:
    """The file system of a scheme, such as `s3`, `hf` or `https`.

    Returns:
        An `fsspec.AbstractFileSystem`.
    Raises:
        ConfigError: there is none of this scheme, or its package is not installed.
    """
    with needs("remote"):
        import fsspec
    if scheme in OBJECT_STORES:
        from obstore.fsspec import FsspecStore

        from postmean.storage.object_store import client_settings

        make: Any = FsspecStore
        return make(scheme, skip_instance_cache=True, **client_settings(scheme))
    try:
        return fsspec.filesystem(scheme)
    except ValueError as error:
        raise ConfigError(
            f"{scheme}://: no file system of this kind: pass a path, or s3://, hf:// or https://"
        ) from error
    except ImportError as error:  # the message says what to install
        raise ConfigError(f"{scheme}:// needs a package ({brief(error)}): pip install 'postmean[remote]'") from error
