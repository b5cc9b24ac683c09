"""Checks a zarr shard before zarr decompresses it: its chunks must be of the size that the run's layout gives.

zarr trusts the sizes in the file and makes room for them: a damaged or hostile one could ask for any amount of memory.
Sharding codec of Zarr v3 (ZEP 2): the file ends with the index, (offset, size) uint64 of each inner chunk, all ones
where there is none, and its CRC-32C. Blosc 1 chunk: bytes uncompressed at byte 4, compressed at byte 12, uint32.
"""

import numpy as np

from postmean.base.errors import ShardError

_HEADER = 16  # of a blosc chunk
_CHECKSUM = 4
_ABSENT = np.iinfo(np.uint64).max


def check_chunks(data: bytes, inner: int, shard: int, records: int, record_bytes: int, where: str) -> None:
    """Raise ShardError unless the file has an inner chunk of the right size for each of its records.

    Args:
        data: the shard's file.
        inner, shard: records of an inner chunk and of a whole shard.
        records: of this shard, which is short where it is the run's last.
        record_bytes: of one record, uncompressed.
    """
    chunks, present = shard // inner, -(-records // inner)
    start = len(data) - _CHECKSUM - 16 * chunks
    if start < 0:
        raise ShardError(f"{where}: truncated: generate this shard again")
    index = np.frombuffer(data, "<u8", 2 * chunks, start).reshape(chunks, 2)
    offset, size = index[:present].T
    inside = (size >= _HEADER) & (size <= start) & (offset <= start) & (offset <= start - np.minimum(size, start))
    if not inside.all() or not (index[present:] == _ABSENT).all():
        raise ShardError(f"{where}: damaged index of chunks: generate this shard again")
    header = np.frombuffer(data, np.uint8)[offset.astype(np.int64)[:, None] + np.arange(_HEADER)].view("<u4")
    if not ((header[:, 1] == inner * record_bytes).all() and (header[:, 3] == size).all()):
        raise ShardError(f"{where}: a chunk is not of the run's size: generate this shard again")
