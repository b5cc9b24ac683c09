"""The exact self-join: for each image the K nearest other members of its population, with integer distances.

It is computed once, at indexing; the certificate for any tolerance follows from it. The distances are exact,
|s_i - s_j|^2 from int8 products in int32: an approximate search over-estimates them and would break the bound.
"""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from postmean.base.errors import ConfigError, DataError
from postmean.base.files import write_file
from postmean.base.serialise import from_dict, to_dict
from postmean.contract.image_store import ImageStore
from postmean.engine.population import Population
from postmean.engine.products import int8_product
from postmean.neighbours.cards import read_card, write_card
from postmean.neighbours.distance_table import STEPS, add_counts, empty_counts, tabulate

_ROWS = 1024  # images whose distances to a tile are held at a time: with fewer, a product runs below its full rate


@dataclass(frozen=True, kw_only=True)
class SelfJoinHeader:
    """What a stored self-join was made from."""

    store_fingerprint: str
    flips: bool
    conditional: bool
    nearest: int
    """K, capped by the largest population's size less one"""


@dataclass(frozen=True)
class SelfJoin:
    """Nearest other members of each image in its population (that of its class, if conditional)."""

    header: SelfJoinHeader
    distance2: np.ndarray
    """int32 [N, K], squared distance in integer units, rising; 2^31 - 1 where a population has fewer others"""
    others: np.ndarray
    """int64 [N], number of other members in the population of each image"""
    table: np.ndarray
    """float32 [N, steps], log of the certificate's sum over all members (see `distance_table`); inf if not tabulated"""

    @classmethod
    def path(cls, store: ImageStore, flips: bool, conditional: bool) -> Path:
        """Path of a store's self-join."""
        name = f"self-join{'-flips' if flips else ''}{'-conditional' if conditional else ''}.npz"
        return store.path / "index" / name

    def save(self, store: ImageStore) -> Path:
        """Write beside the store, atomically."""
        path = self.path(store, self.header.flips, self.header.conditional)
        buffer = io.BytesIO()
        np.savez(buffer, distance2=self.distance2, others=self.others, table=self.table)
        write_file(path, buffer.getvalue())
        write_card(path, to_dict(self.header))
        if store.remote is not None:
            store.remote.share_index(path)
        return path

    @classmethod
    def load(cls, store: ImageStore, flips: bool, conditional: bool) -> "SelfJoin":
        """Read the self-join of a store.

        Raises:
            DataError: there is none, it is damaged, or it was made from other images.
        """
        path = cls.path(store, flips, conditional)
        flags = f"{' --flips' if flips else ''}{' --conditional' if conditional else ''}"
        remedy = f"make it with `postmean index {store.where}{flags}`"
        if store.remote is not None:
            store.remote.fetch_index(path.name)
        if not path.is_file():
            raise DataError(f"{path}: no self-join for this store: {remedy}")
        try:
            header = from_dict(SelfJoinHeader, read_card(path, remedy), "card")
            with np.load(path, allow_pickle=False) as file:
                loaded = cls(header, file["distance2"], file["others"], file["table"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, ConfigError) as error:
            raise DataError(f"{path}: damaged ({error}): {remedy}") from error
        made_from = (header.store_fingerprint, header.flips, header.conditional)
        if made_from != (store.header.fingerprint, flips, conditional):
            raise DataError(f"{path}: made from other images than the store's: {remedy}")
        return loaded

    @classmethod
    def find(cls, store: ImageStore, flips: bool, conditional: bool, nearest: int) -> "SelfJoin | None":
        """The stored self-join with K = `nearest`, or as many as there are; None if it has to be computed."""
        try:
            join = cls.load(store, flips, conditional)
        except DataError:
            return None
        columns = join.header.nearest
        return join if columns == nearest or columns == join.others.max() < nearest else None


def self_join(
    store: ImageStore,
    flips: bool,
    conditional: bool,
    nearest: int = 64,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
) -> SelfJoin:
    """Compute the self-join: 2 N M D int8 operations for M members per population.

    Args:
        nearest: K.
        progress: called with the number of images done so far.
    """
    labels: list[int | None] = list(range(store.classes)) if conditional else [None]
    if conditional and store.labels is None:
        raise DataError(f"{store.where}: a conditional self-join needs labels, this store has none")
    populations = [Population(store, flips, label, device, exact_products=True) for label in labels]
    populations = [p for p in populations if len(p)]
    if store.dim * 255**2 >= 2**31:
        raise DataError(f"{store.where}: {store.dim} values an image, squared distances in int32 hold 33 025: resize")
    columns = max(1, min(nearest, max(len(p) for p in populations) - 1))
    distance2 = np.full((len(store), columns), np.iinfo(np.int32).max, np.int32)
    others = np.zeros(len(store), np.int64)
    table = np.full((len(store), len(STEPS)), np.inf, np.float32)
    done = 0
    for population in populations:
        others[population.images] = len(population) - 1
        keep = min(columns, len(population) - 1)
        for start in range(0, len(population.images), _ROWS):
            stop = min(start + _ROWS, len(population.images))
            if keep:
                rows = population.images[start:stop]
                nearest_rows, counts = nearest_members(population, start, stop, keep)
                distance2[rows, :keep] = nearest_rows.cpu().numpy()
                if keep == columns:
                    table[rows] = tabulate(counts, nearest_rows[:, -1])
            done += stop - start
            progress(done)
    header = SelfJoinHeader(
        store_fingerprint=store.header.fingerprint, flips=flips, conditional=conditional, nearest=columns
    )
    return SelfJoin(header, distance2, others, table)


def nearest_members(population: Population, start: int, stop: int, keep: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distances of members start .. stop - 1 to the other members: the `keep` smallest, and counts of all.

    Returns:
        int32 [stop - start, keep], rising, and int64 [stop - start, bins].
    """
    pixels, count = population.pixels, stop - start
    rows = population.rows(np.arange(start, stop))
    if population.flips:  # the distance to a mirror image is the mirror image's distance
        rows = torch.cat([rows, population.flip(rows)])
    rows = F.pad(rows, (0, pixels.columns - population.dim))
    norm2 = population.norm2.to(torch.int32)
    best = torch.empty((count, 0), dtype=torch.int32, device=rows.device)
    counts = empty_counts(count, rows.device)
    for first, last, tile in pixels.tiles():
        product = int8_product(rows, tile)[:, : last - first]
        for half in range(population.halves):
            distance2 = product[half * count : (half + 1) * count]
            distance2.mul_(-2).add_(norm2[first:last]).add_(norm2[start:stop, None])
            own_first, own_last = max(first, start), min(last, stop)
            if half == 0 and own_first < own_last:  # the images themselves
                own = torch.arange(own_first, own_last, device=rows.device)
                distance2[own - start, own - first] = torch.iinfo(torch.int32).max
            add_counts(counts, distance2)
            nearest = distance2.topk(min(keep, last - first), dim=1, largest=False, sorted=False).values
            best = torch.cat([best, nearest], 1)
            best = best.topk(min(keep, best.shape[1]), dim=1, largest=False).values
    return best[:, :keep], counts
