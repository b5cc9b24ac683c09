"""Where a page is written."""

from pathlib import Path

from postmean.base.errors import ConfigError
from postmean.base.files import write_file
from postmean.base.paths import local_path
from postmean.storage.storage import Storage

PAGE = "report.html"


def write_page(html: bytes, out: Path | None, beside: Storage) -> str:
    """Write a page, whole or not at all, and return where it is.

    Args:
        out: its file; None for report.html in `beside`.
    Raises:
        ConfigError: the file cannot be written.
        GenerationError: nor can `beside`.
    """
    if out is None:
        beside.put(PAGE, html)
        return f"{beside.url}/{PAGE}"
    path = local_path(out)
    try:
        write_file(path, html)
    except OSError as error:
        raise ConfigError(f"{path}: cannot write: {error.strerror}: pass another --out") from error
    return str(path)
