"""Deterministic tar files that `webdataset` can read: USTAR, regular files only, no times and no owners.

The reader accepts exactly what the writer writes. It works on bytes in memory, extracts nothing to disk and supports
no extension of the format, so it can only refuse a damaged or hostile file.
"""

from collections.abc import Iterable

from postmean.base.errors import ShardError

_BLOCK = 512
_END = bytes(2 * _BLOCK)


def pack(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar file of these (name, content) members, in order; names are ASCII of at most 100 characters."""
    # not tarfile or webdataset's TarWriter: both pad the file to a multiple of 10 240 bytes, and TarWriter sets the
    # mode 0444, so the bytes would differ. TarInfo.tobuf gives the bytes of `_header` and takes several times as
    # long, and the reader makes a header for each member, to accept nothing else
    parts = []
    for name, content in members:
        parts += [_header(name.encode("ascii"), len(content)), content, bytes(-len(content) % _BLOCK)]
    return b"".join([*parts, _END])


def unpack(data: bytes, where: str) -> list[tuple[str, memoryview]]:
    """The (name, content) members, in order; contents are views into `data`.

    Raises:
        ShardError: truncated, or not written by `pack`.
    """
    members = []
    view = memoryview(data)
    position = 0
    while data[position : position + _BLOCK] != _END[:_BLOCK]:
        header = data[position : position + _BLOCK]
        name = header[:100].rstrip(b"\0")
        try:
            size = int(header[124:135], 8)
            decoded = name.decode("ascii")
        except ValueError as error:
            raise ShardError(f"{where}: damaged at byte {position}") from error
        start = position + _BLOCK
        if size < 0 or start + size > len(data) or header != _header(name, size):
            raise ShardError(f"{where}: truncated or damaged at byte {position}")
        members.append((decoded, view[start : start + size]))
        position = start + size + -size % _BLOCK
    if data[position:] != _END:
        raise ShardError(f"{where}: truncated or damaged at its end")
    return members


def _header(name: bytes, size: int) -> bytes:
    before = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0"
    after = b"0" + bytes(100) + b"ustar\00000" + bytes(64 + 16 + 155 + 12)
    checksum = sum(before) + 8 * ord(" ") + sum(after)
    return before + b"%06o\0 " % checksum + after
