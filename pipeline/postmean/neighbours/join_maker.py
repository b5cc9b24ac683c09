"""Makes the self-join of a store piece by piece: units of partial results, groups of rows, and all rows of these."""

import io
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeAlias

import numpy as np
import torch

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore
from postmean.engine.population import Population
from postmean.neighbours.block_join import FAR, BlockJoin, Nearest
from postmean.neighbours.distance_table import BINS, STEPS, tabulate
from postmean.neighbours.join_plan import JoinPlan, default_block

_TABULATED = 512  # images at a time: megabytes

Arrays: TypeAlias = Mapping[str, np.ndarray]


class JoinMaker:
    """The work of one self-join. Parts are bytes, so that they can be stored; `arrays` reads them.

    Args:
        nearest: K, capped by the largest population's size less one.
        block: images of a block; None for `default_block`.
        device: where distances are computed.
        cores: CPU threads.
    Raises:
        DataError: no labels for a conditional self-join, or images too large for distances in int32.
    """

    def __init__(
        self,
        store: ImageStore,
        flips: bool,
        conditional: bool,
        nearest: int,
        block: int | None = None,
        device: str = "cpu",
        cores: int = 1,
    ) -> None:
        if conditional and store.labels is None:
            raise DataError(f"{store.where}: a conditional self-join needs labels, this store has none")
        if store.dim * 255**2 >= 2**31:
            raise DataError(
                f"{store.where}: {store.dim} values an image, squared distances in int32 hold 33 025: resize"
            )
        labels = list(range(store.classes)) if conditional else [None]
        self._population = cache(lambda label: Population(store, flips, label, device, exact_products=True))
        sizes = [(label, len(Population(store, flips, label).images)) for label in labels]
        self._store, self._device, self._cores = store, device, cores
        self._halves = 2 if flips else 1
        self._size = dict(sizes)
        self.nearest = max(1, min(nearest, self._halves * max(self._size.values()) - 1))
        """K"""
        self.plan = JoinPlan.of(sizes, block or default_block(len(store)))

    def load(self) -> None:
        """Load the images onto a GPU, if they are of one population."""
        if self._device != "cpu" and len(self._size) == 1:
            _ = self._population(*self._size).pixels

    def unit(self, unit: int, progress: Callable[[int], None] = lambda pairs: None) -> bytes:
        """Partial results of all images that the unit touches: `distance2`, `counts` and `first_bin`.

        Args:
            progress: called with the number of pairs joined so far.
        """
        plan, done = self.plan, 0
        near = {n: Nearest(len(plan.blocks[n]), self.nearest, self._device) for n in plan.touched(unit)}
        for pair in plan.units[unit]:
            left, right = ((range(plan.blocks[n].start, plan.blocks[n].stop), near[n]) for n in pair)
            population = self._population(plan.blocks[pair[0]].label)
            BlockJoin(population, left, right).run(self._cores, lambda pairs: progress(done + pairs))  # noqa: B023
            done += len(left[0]) * (len(left[0]) - 1) // 2 if pair[0] == pair[1] else len(left[0]) * len(right[0])
            if population.label is not None:
                self._population.cache_clear()  # a class's images are copied
        counts = torch.cat([near[n].counts for n in near]).cpu().numpy()
        occurring = np.flatnonzero(counts.any(0))
        first, last = (int(occurring[0]), int(occurring[-1])) if len(occurring) else (0, 0)
        counts = counts[:, first : last + 1]
        return _part_bytes(
            distance2=torch.cat([near[n].distance2 for n in near]).cpu().numpy(),
            counts=counts.astype(np.uint16 if counts.max() < 1 << 16 else np.uint32),
            first_bin=np.array([first]),
        )

    def group(self, group: int, part: Callable[[int], bytes]) -> bytes:
        """The finished rows of a group's images: `distance2` and `table`, as in a `SelfJoin`.

        Merges one unit after another, so memory does not grow with their number. The table is always computed on a CPU:
        a GPU's exponentials differ in the last bit.

        Args:
            part: the bytes of a unit.
        """
        plan, images = self.plan, self.plan.images(group)
        distance2 = np.full((images, self.nearest), FAR, np.int32)
        counts = np.zeros((images, BINS), np.int32)
        for unit in plan.units_of(group):
            read = arrays(part(unit))
            rows, there = self._rows(plan.touched(unit)), self._rows(plan.groups[group])
            for number in rows.keys() & there.keys():
                _merge(distance2[there[number]], counts[there[number]], read, rows[number])
        table = np.full((images, len(STEPS)), np.inf, np.float32)

        def fill(some: slice) -> None:
            table[some] = tabulate(counts[some], distance2[some, -1])

        tabulated = []
        for number, rows in self._rows(plan.groups[group]).items():
            if self._halves * self._size[plan.blocks[number].label] > self.nearest:  # else no K-th to tabulate from
                starts = range(rows.start, rows.stop, _TABULATED)
                tabulated += [slice(start, min(start + _TABULATED, rows.stop)) for start in starts]
        with ThreadPoolExecutor(self._cores) as pool:
            list(pool.map(fill, tabulated))
        return _part_bytes(distance2=distance2, table=table)

    def joined(self, group: Callable[[int], bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`distance2`, `others` and `table` of a `SelfJoin`.

        Args:
            group: the bytes of a group.
        """
        distance2 = np.full((len(self._store), self.nearest), FAR, np.int32)
        others = np.zeros(len(self._store), np.int64)
        table = np.full((len(self._store), len(STEPS)), np.inf, np.float32)
        for number, blocks in enumerate(self.plan.groups):
            read = arrays(group(number))
            for block, rows in self._rows(blocks).items():
                label, first, last = self.plan.blocks[block].label, *self._span(block)
                images = self._population(label).images[first:last]
                distance2[images], table[images] = read["distance2"][rows], read["table"][rows]
                others[images] = self._halves * self._size[label] - 1
        return distance2, others, table

    def _span(self, block: int) -> tuple[int, int]:
        return self.plan.blocks[block].start, self.plan.blocks[block].stop

    def _rows(self, blocks: "range | list[int]") -> dict[int, slice]:
        """Rows of each block where these blocks are laid one after another."""
        rows, start = {}, 0
        for number in blocks:
            rows[number] = slice(start, start + len(self.plan.blocks[number]))
            start = rows[number].stop
        return rows


def arrays(part: bytes) -> Arrays:
    """The arrays of a part."""
    with np.load(io.BytesIO(part), allow_pickle=False) as file:
        return dict(file)


def _merge(distance2: np.ndarray, counts: np.ndarray, part: Arrays, rows: slice) -> None:
    """Enter a part's rows into those of a block."""
    both = np.concatenate([distance2, part["distance2"][rows]], 1)
    distance2[:] = np.sort(both, axis=1)[:, : distance2.shape[1]]
    there = part["counts"]
    first = int(part["first_bin"][0])
    counts[:, first : first + there.shape[1]] += there[rows].astype(np.int32)


def _part_bytes(**named: np.ndarray) -> bytes:
    """A file as of `numpy.savez`, compressed quickly: counts shrink to a third, distances hardly."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, array in named.items():
            plain = zipfile.ZipInfo(f"{name}.npy")
            plain.compress_type = zipfile.ZIP_DEFLATED if name == "counts" else zipfile.ZIP_STORED
            with file.open(plain, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()
