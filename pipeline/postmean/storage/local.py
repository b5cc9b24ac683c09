"""Storage in a local or mounted folder: write to a temporary name, fsync, rename."""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from postmean.base.errors import GenerationError, ShardError
from postmean.storage.storage import check_path, is_temporary

_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""What link says on file systems that have none, such as gcsfuse and some SMB mounts."""


class LocalStorage:
    """A folder. Symbolic links that lead out of it are refused; `list` leaves out links and special files.

    A writer holds a lock (flock) on its temporary file, which the kernel releases when the writer dies: so
    `clean_temporary` can tell leftovers from files being written, whatever container or PID namespace they are from.
    On a file system without locks it cannot, and leaves both: a leftover costs its bytes and is never read.
    """

    is_read_only = False

    def __init__(self, root: Path | str) -> None:
        self._root = os.path.realpath(root)
        self.url = self._root

    def put(self, path: str, data: bytes) -> None:
        target = self._target(path)
        with _write_errors(target), _temporary(target, data) as temporary:
            os.replace(temporary, target)
            _sync_folder(os.path.dirname(target))

    def create(self, path: str, data: bytes) -> bool:
        target = self._target(path)
        with _write_errors(target), _temporary(target, data) as temporary:
            try:
                os.link(temporary, target)  # unlike rename, fails where the target exists
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                if not _create_in_place(target, data):
                    return False
            _sync_folder(os.path.dirname(target))
        return True

    def get(self, path: str) -> bytes:
        with self._reading(path) as (descriptor, size):
            return self._read(path, descriptor, 0, size)

    def get_range(self, path: str, start: int, length: int) -> bytes:
        with self._reading(path) as (descriptor, _):
            return self._read(path, descriptor, start, length)

    def exists(self, path: str) -> bool:
        return os.path.isfile(self._source(path))

    def list(self, prefix: str) -> list[str]:
        return sorted(path for path in self._walk(prefix) if not is_temporary(path.rpartition("/")[2]))

    def delete(self, path: str) -> None:
        target = self._target(path)
        with _write_errors(target), suppress(FileNotFoundError):
            os.unlink(target)
            _sync_folder(os.path.dirname(target))

    def clean_temporary(self) -> int:
        removed = 0
        for path in self._walk(""):
            if is_temporary(path.rpartition("/")[2]):
                with _write_errors(path), suppress(FileNotFoundError):
                    descriptor = os.open(os.path.join(self._root, path), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                    try:
                        if _lock(descriptor, fcntl.LOCK_NB):
                            os.unlink(os.path.join(self._root, path))
                            removed += 1
                    finally:
                        os.close(descriptor)
        return removed

    def _walk(self, prefix: str) -> Iterator[str]:
        """Relative paths of regular files, temporary ones included, in no order."""
        folders = [prefix]
        while folders:
            folder = folders.pop()
            try:
                entries = os.scandir(self._source(folder) if folder else self._root)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise ShardError(f"{self._root}/{folder}: cannot list it: {error.strerror}") from error
            with entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path)
                    elif entry.is_file(follow_symlinks=False):
                        yield path

    def _source(self, path: str) -> str:
        """Absolute path to read from, links resolved."""
        real = os.path.realpath(os.path.join(self._root, check_path(path)))
        if os.path.commonpath([self._root, real]) != self._root:
            raise ShardError(f"{self._root}/{path}: a link that leads out of the run's folder: put the files there")
        return real

    def _target(self, path: str) -> str:
        """Absolute path to write to: its folder's links resolved, its own not, since a rename replaces a link."""
        folder, _, name = check_path(path).rpartition("/")
        return os.path.join(self._source(folder) if folder else self._root, name)

    @contextmanager
    def _reading(self, path: str) -> Iterator[tuple[int, int]]:
        source = self._source(path)
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would block
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ShardError(f"{self._root}/{path}: missing: generate it again or copy it there") from error
        except OSError as error:
            raise ShardError(f"{self._root}/{path}: cannot read it: {error.strerror}") from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ShardError(f"{self._root}/{path}: not a regular file: the run was tampered with")
            yield descriptor, status.st_size
        finally:
            os.close(descriptor)

    def _read(self, path: str, descriptor: int, start: int, length: int) -> bytes:
        parts = []
        try:
            while length:
                parts.append(os.pread(descriptor, length, start))
                if not parts[-1]:
                    raise ShardError(f"{self._root}/{path}: ends {length} bytes early: generate it again")
                start, length = start + len(parts[-1]), length - len(parts[-1])
        except OSError as error:
            raise ShardError(f"{self._root}/{path}: cannot read it: {error.strerror}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)


@contextmanager
def _write_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "free space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
        raise GenerationError(f"{path}: cannot write: {error.strerror}: {remedy} and run the same again") from error


@contextmanager
def _temporary(target: str, data: bytes) -> Iterator[str]:
    """A temporary file beside `target` that holds `data` durably; gone afterwards unless it was renamed."""
    folder, name = os.path.split(target)
    _make_folder(folder)
    while True:
        temporary = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        _lock(descriptor)  # where there are no locks, clean_temporary leaves the file alone
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # clean_temporary took it before it was locked
    try:
        _write(descriptor, data)
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        os.close(descriptor)


def _create_in_place(target: str, data: bytes) -> bool:
    """Create without hard links; False where something is there.

    Still only one writer creates the name, but a reader may find the file short, for a moment or, where the writer is
    killed in that moment, for good. Only leases are created: a short one is damaged, so nobody's, and passed over by
    whoever takes the next number; its writer, if it lives, then sees the higher number and stops.
    """
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    try:
        try:
            _write(descriptor, data)
        finally:
            os.close(descriptor)
    except OSError:
        with suppress(OSError):
            os.unlink(target)
        raise
    return True


def _write(descriptor: int, data: bytes) -> None:
    """All of it, durably."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _lock(descriptor: int, flags: int = 0) -> bool:
    """Whether the file is locked now: not where another process holds it, nor on a file system without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
    except OSError:  # ENOSYS, EOPNOTSUPP or ENOLCK as on Lustre without -o flock and NFS without a lock daemon
        return False
    return True


def _make_folder(folder: str) -> None:
    if not os.path.isdir(folder):
        _make_folder(os.path.dirname(folder))
        with suppress(FileExistsError):
            os.mkdir(folder)
            _sync_folder(os.path.dirname(folder))


def _sync_folder(folder: str) -> None:
    """Make a rename or a new name in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
