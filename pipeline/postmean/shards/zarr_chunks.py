"""Checks a zarr shard before zarr decompresses it: its chunks must have the size given by the run's layout.

zarr trusts the sizes in the file and allocates them, so a damaged or hostile file could ask for any amount of memory.
Zarr v3 sharding codec (ZEP 2): the file ends with the index and its CRC-32C; the index has an (offset, size) uint64
pair per inner chunk, all ones if the chunk is absent. Blosc 1 chunk: uncompressed bytes at byte 4, compressed bytes at
byte 12, both uint32.
"""

import numpy as np

from postmean.base.errors import ShardError

_HEADER = 16  # bytes of a blosc chunk's header
_CHECKSUM = 4  # bytes
_ABSENT = np.iinfo(np.uint64).max


def check_chunks(data: bytes, inner: int, shard: int, records: int, record_bytes: int, where: str) -> None:
    """Raise ShardError unless the file has exactly the inner chunks for its records, each of the right size.

    Args:
        data: the shard's file.
        inner, shard: records of an inner chunk and of a full shard.
        records: records of this shard; the last shard of a segment may have fewer than `shard`.
        record_bytes: uncompressed bytes of one record.
    """
    chunks, present = shard // inner, -(-records // inner)
    start = len(data) - _CHECKSUM - 16 * chunks
    if start < 0:
        raise ShardError(f"{where}: truncated")
    index = np.frombuffer(data, "<u8", 2 * chunks, start).reshape(chunks, 2)
    offset, size = index[:present].T
    inside = (size >= _HEADER) & (size <= start) & (offset <= start) & (offset <= start - np.minimum(size, start))
    if not inside.all() or not (index[present:] == _ABSENT).all():
        raise ShardError(f"{where}: damaged index of chunks")
    header = np.frombuffer(data, np.uint8)[offset.astype(np.int64)[:, None] + np.arange(_HEADER)].view("<u4")
    if not ((header[:, 1] == inner * record_bytes).all() and (header[:, 3] == size).all()):
        raise ShardError(f"{where}: a chunk is not of the run's size")
