"""The files of a checkpoint: written whole, with their hashes in CHECKPOINT/files.json, sealed. What is loaded was what
training wrote."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postmean.base.errors import DataError
from postmean.base.extras import needs
from postmean.base.files import file_sha256, move_into_place, temporary_folder
from postmean.base.json_files import JsonError, parse_json, to_sealed_json, unsealed

FILES = "files.json"


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """A folder to write files to, which is `final` with their hashes after the block, or nothing.

    Raises:
        DataError: it cannot be written.
    """
    with write_errors(final), temporary_folder(final) as temporary:
        yield temporary
        write_hashes(temporary)
        move_into_place(temporary, final)


@contextmanager
def write_errors(final: Path) -> Iterator[None]:
    """Raise what the file system or safetensors raise as a DataError that names the folder."""
    with needs("train"):
        from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:  # such as a full disk
        raise DataError(f"{final}: cannot be written ({error}): make room, and run the same command again") from error


def write_hashes(folder: Path) -> None:
    """Write the hashes of all files in a checkpoint that is complete: a second per GB."""
    hashes = {
        path.relative_to(folder).as_posix(): file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    (folder / FILES).write_bytes(to_sealed_json(hashes))


def check_files(checkpoint: Path, start: str = "") -> None:
    """Check the files of a checkpoint before they are loaded: a second per GB.

    Args:
        start: of the paths to check, such as "unet/"; "" for all.
    Raises:
        DataError: a file is missing or is not what training wrote, or the checkpoint has no hashes of them.
    """
    remedy = "take another checkpoint, or remove it: training then goes on from the one before"
    path = checkpoint / FILES
    try:
        hashes = unsealed(parse_json(path.read_bytes()))
        names = [name for name in hashes if name.startswith(start)]
        damaged = [name for name in names if file_sha256(checkpoint / name) != hashes[name]]
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: missing: not a whole checkpoint of this version: {remedy}") from error
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}: make it readable") from error
    except JsonError as error:
        raise DataError(f"{path}: damaged ({error}): {remedy}") from error
    if damaged or not names:
        raise DataError(
            f"{checkpoint / (damaged or [start])[0]}: damaged, its SHA-256 is not that in {FILES}: {remedy}"
        )
