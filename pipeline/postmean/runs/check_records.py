"""Checks of all records of a shard: what a valid hash does not prove, and costs no look at other images."""

import numpy as np

from postmean.base.errors import ShardError
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.records import Records
from postmean.contract.tuples import TupleBlock
from postmean.runs.recompute import is_judged


def check_tuple_columns(records: Records, block: TupleBlock, store: ImageStore, remedy: str) -> None:
    """Raise ShardError unless the columns that the tuples' numbers decide are theirs."""
    label = store.label(block.entry)
    # not to the last bit: that of exp and ndtri may differ between machines
    is_same = np.allclose(records.sigma, block.sigma, rtol=1e-5, atol=0)
    if records.label is not None and label is not None:
        is_same = is_same and np.array_equal(records.label, label)
    if records.sigma_next is not None and block.sigma_next is not None:
        is_same = is_same and np.allclose(records.sigma_next, block.sigma_next, rtol=1e-5, atol=1e-6)
    if not is_same:
        raise ShardError(f"its sigma, sigma_next or label are not those of its tuples: {remedy}")


def check_values(records: Records, manifest: Manifest, remedy: str) -> None:
    """Raise ShardError unless every mean can be one of this store's images: a valid hash does not prove that."""
    entries = manifest.tuple_source().entries
    for means in (records.mean, records.mean_next):
        if means is None:
            continue
        pixels = means.dense.astype(np.float32)
        if not np.isfinite(pixels).all() or np.abs(pixels).max(initial=0.0) > 1.001:
            raise ShardError(f"a mean is not finite or leaves [-1, 1]: {remedy}")
        if (means.entry >= entries).any() or not ((means.weight >= 0) & (means.weight <= 1.001)).all():
            raise ShardError(
                f"a mean has an entry beyond the {entries} of the data set or a weight outside [0, 1]: {remedy}"
            )
        sparse = means.count[means.count >= 0]
        total = np.bincount(np.repeat(np.arange(len(sparse)), sparse), means.weight, len(sparse))
        if (np.abs(total - 1) > 1e-3).any():
            raise ShardError(f"the weights of a mean do not sum to 1: {remedy}")


def check_neighbours(records: Records, block: TupleBlock, manifest: Manifest, store: ImageStore, remedy: str) -> None:
    """Raise ShardError unless every mean has the run's k neighbours, or all members if they are fewer."""
    if not is_judged(manifest):
        return
    members = np.full(len(block), manifest.tuple_source().entries)
    if manifest.recipe.conditional:
        assert store.labels is not None
        label = store.label(block.entry)
        members = np.bincount(store.labels)[label] * (2 if manifest.recipe.flips else 1)
    other = np.flatnonzero(records.support_size != np.minimum(manifest.estimator.k, members))
    if len(other):
        raise ShardError(
            f"a mean was made from {records.support_size[other[0]]} neighbours, the run's are "
            f"{manifest.estimator.k}: {remedy}"
        )
