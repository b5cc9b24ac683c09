"""Paths as a user gives them, on the command line or from Python: `~` is the home folder, a URL is no local path."""

import os
import re
from pathlib import Path

from postmean.base.errors import ConfigError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # Path makes one slash of two
_LONGEST_NAME = 255
_MARKS = {
    "an image store": ("header.json", "images.npy"),
    "a run of `postmean generate`": ("manifest.json", "plan.parquet"),
    "a training run": ("config.json", "checkpoints"),
    "samples of a model": ("samples.json", "grid.png"),
}
"""What a folder of ours can be -> what is in it."""


def local_path(path: str | Path) -> Path:
    """A path of this machine, with `~` and `~user` replaced by the home folder.

    Raises:
        ConfigError: it is empty or a URL, or there is no such home folder.
    """
    text = os.fspath(path)
    if not text or "\0" in text:
        raise ConfigError(f"{text!r}: not a path: give that of a folder or file")
    if _URL.match(text):
        raise ConfigError(f"{text}: a URL, but this must be on this machine: give the path of a folder or file")
    if not text.startswith("~"):
        return Path(text)
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        user = text.split("/")[0][1:]
        why = f"no user {user}: write ./{text} for a name with ~" if user else "no home folder: set HOME"
        raise ConfigError(f"{text}: {why}, or write the path out")
    return Path(expanded)


def out_folder(out: str | Path, made: str) -> Path:
    """The local folder to write to, which need not exist; checked now, because what fills it may take hours.

    Args:
        made: see `check_out`.
    Raises:
        ConfigError: see `local_path` and `check_out`; or there can be no folder, or it may not be written.
    """
    path = local_path(out)
    check_out(path, made)
    place = os.path.abspath(path)
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in place.split("/")):
        raise ConfigError(f"{path}: cannot write: a name of more than {_LONGEST_NAME} bytes: pass another --out")
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise ConfigError(f"{path}: cannot write: {place} is no folder: pass another --out")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: cannot write: no permission in {place}: make it writable or pass another --out")
    return path


def check_out(out: str | Path, made: str) -> None:
    """Refuse a folder of ours that holds something else, such as the image store itself.

    Args:
        out: a local path, which need not exist.
        made: what is to be made there, one of the kinds in `_MARKS`.
    Raises:
        ConfigError: the folder holds another kind.
    """
    for kind, marks in _MARKS.items():
        if kind != made and all(os.path.exists(os.path.join(out, mark)) for mark in marks):
            raise ConfigError(f"{out}: {kind}: pass another --out")
