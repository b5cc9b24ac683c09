"""The other sides of reading.py: the same records written and read with webdataset, litData or mosaicml-streaming.

reading.py starts this in an environment that has numpy and the library of one side, and nothing of postmean. A sample
is one record, as users of these libraries have it. Each side does the least: raw bytes in webdataset, plain numpy
arrays in the others, no shuffling, no worker processes.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BATCH = 256
SHARD = 2048
CHUNK = 1 << 26  # bytes of a chunk of litData and streaming


class Case:
    """The records of a case, as reading.py left them in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = np.load(folder / "images.npy", mmap_mode="r").view(np.ndarray)
        self.shape = self.images.shape[1:]
        at_once = max(1, (1 << 17) // self.images[0].size)
        self.pixels = np.empty((at_once, *self.shape), np.uint8)
        self.values = np.empty((at_once, self.images[0].size), np.float32)
        self.numbers = np.load(folder / "numbers.npy")
        self.dense = np.load(folder / "dense.npy", mmap_mode="r")
        self.is_dense = len(self.dense) > 0
        self.entry, self.weight = np.load(folder / "entry.npy"), np.load(folder / "weight.npy")
        self.stops = np.cumsum(np.load(folder / "count.npy"))

    def __len__(self) -> int:
        return len(self.numbers)

    def record(self, row: int) -> dict[str, np.ndarray]:
        """The arrays of one record."""
        if self.is_dense:
            return {"numbers": self.numbers[row], "dense": np.array(self.dense[row])}
        pairs = slice(self.stops[row - 1] if row else 0, self.stops[row])
        return {"numbers": self.numbers[row], "entry": self.entry[pairs], "weight": self.weight[pairs]}

    def mean(self, record: dict[str, np.ndarray]) -> np.ndarray:
        """The mean of a record that was read, float32 [C, H, W]."""
        if self.is_dense:
            return record["dense"]
        entry, weight = record["entry"], record["weight"]
        mean = np.zeros(self.images[0].size, np.float32)
        for first in range(0, len(entry), len(self.values)):  # as postmean does, in memory that stays in the cache
            part = slice(first, min(first + len(self.values), len(entry)))
            n = part.stop - first
            self.images.take(entry[part], axis=0, out=self.pixels[:n], mode="clip")
            self.values[:n] = self.pixels[:n].reshape(n, -1)
            mean += weight[part] @ self.values[:n]
        mean *= np.float32(1 / 127.5)
        mean -= weight.sum()
        return mean.reshape(self.shape)


def write_webdataset(case: Case, out: Path) -> None:
    import webdataset

    out.mkdir()
    for start in range(0, len(case), SHARD):
        with webdataset.TarWriter(str(out / f"{start // SHARD:06d}.tar")) as tar:
            for row in range(start, min(start + SHARD, len(case))):
                arrays = case.record(row).items()
                tar.write({"__key__": f"{row:09d}"} | {f"{name}.bin": array.tobytes() for name, array in arrays})


def read_webdataset(case: Case, out: Path) -> Iterator[dict[str, np.ndarray]]:
    import webdataset

    kinds = {"numbers": np.float64, "dense": np.float16, "entry": np.uint32, "weight": np.float32}
    for sample in webdataset.WebDataset(sorted(map(str, out.iterdir())), shardshuffle=False):
        record = {n: np.frombuffer(sample[f"{n}.bin"], kind) for n, kind in kinds.items() if f"{n}.bin" in sample}
        if case.is_dense:
            record["dense"] = record["dense"].reshape(case.shape)
        yield record


def write_litdata(case: Case, out: Path) -> None:
    from litdata.streaming.writer import BinaryWriter

    out.mkdir()
    writer = BinaryWriter(str(out), chunk_bytes=CHUNK)
    for row in range(len(case)):
        writer[row] = case.record(row)
    writer.done()
    writer.merge()


def read_litdata(case: Case, out: Path) -> Iterator[dict[str, np.ndarray]]:
    from litdata import StreamingDataset

    yield from StreamingDataset(str(out), shuffle=False)


def write_streaming(case: Case, out: Path) -> None:
    from streaming import MDSWriter

    kinds = {"numbers": "float64", "dense": "float16", "entry": "uint32", "weight": "float32"}
    columns = {}
    for name, array in case.record(0).items():
        fixed = name in ("numbers", "dense")
        columns[name] = f"ndarray:{kinds[name]}" + (":" + ",".join(map(str, array.shape)) if fixed else "")
    with MDSWriter(out=str(out), columns=columns, size_limit=CHUNK) as writer:
        for row in range(len(case)):
            writer.write(case.record(row))


def read_streaming(case: Case, out: Path) -> Iterator[dict[str, np.ndarray]]:
    from streaming import StreamingDataset

    yield from StreamingDataset(local=str(out), shuffle=False, batch_size=BATCH)


SIDES = {
    "webdataset": (write_webdataset, read_webdataset),
    "litdata": (write_litdata, read_litdata),
    "mosaicml-streaming": (write_streaming, read_streaming),
}


def batches(case: Case, records: Iterator[dict[str, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers float64 [B, 8] and means float32 [B, C, H, W]."""
    numbers, means, filled = np.empty((BATCH, 8)), np.empty((BATCH, *case.shape), np.float32), 0
    for record in records:
        numbers[filled], means[filled] = record["numbers"], case.mean(record)
        filled += 1
        if filled == BATCH:
            yield numbers, means
            numbers, means, filled = np.empty((BATCH, 8)), np.empty((BATCH, *case.shape), np.float32), 0


def main() -> None:
    side, folder = sys.argv[1], Path(sys.argv[2])
    case, out = Case(folder), folder / side
    write, read = SIDES[side]
    shutil.rmtree(out, ignore_errors=True)
    write(case, out)
    print("ready", flush=True)
    for line in sys.stdin:  # one pass a line
        began = time.perf_counter()
        seen, checksum = 0, 0.0
        for numbers, means in batches(case, read(case, out)):
            seen += len(numbers)
            if line.strip() == "check":
                checksum += float(np.abs(means).sum(dtype=np.float64) + numbers.sum())
        print(seen, time.perf_counter() - began, checksum, flush=True)


if __name__ == "__main__":
    main()
