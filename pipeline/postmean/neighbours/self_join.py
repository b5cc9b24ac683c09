"""The exact self-join: for each image the K nearest other members of its population, with integer distances.

It is computed once, at indexing; the certificate for any tolerance follows from it. The distances are exact,
|s_i - s_j|^2 from int8 products in int32: an approximate search over-estimates them and would break the bound.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from postmean.base.errors import ConfigError, DataError
from postmean.base.files import write_file
from postmean.base.serialise import from_dict, to_dict
from postmean.contract.image_store import ImageStore
from postmean.neighbours.cards import read_card, write_card
from postmean.neighbours.join_maker import JoinMaker


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
    store: ImageStore, flips: bool, conditional: bool, nearest: int = 64, device: str = "cpu", block: int | None = None
) -> SelfJoin:
    """Compute the self-join in this process and its memory, with torch's number of CPU threads.

    It takes N M D int8 operations for M members per population.

    Args:
        nearest: K.
        block: images of a block; the result does not depend on it.
    """
    maker = JoinMaker(store, flips, conditional, nearest, block, device, torch.get_num_threads())
    parts = [maker.unit(unit) for unit in range(len(maker.plan.units))]
    groups = [maker.group(group, parts.__getitem__) for group in range(len(maker.plan.groups))]
    header = SelfJoinHeader(
        store_fingerprint=store.header.fingerprint, flips=flips, conditional=conditional, nearest=maker.nearest
    )
    return SelfJoin(header, *maker.joined(groups.__getitem__))
