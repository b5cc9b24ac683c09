"""Records: the posterior means of uncertified tuples and their quality, as columns.

A mean is stored *sparse* (entries of the data set and their weights) if that is smaller and has at most the manifest's
`max_support` pairs, else *dense* (float16 pixels).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from postmean.base.errors import ShardError
from postmean.contract.image_store import ImageStore
from postmean.contract.weighted_images import weighted_images

QUALITY_COLUMNS = ("ess", "top_weight", "variance", "tail_mass", "support_size")
PLAIN_COLUMNS = ("z", "x")
DROPPED_MASS = 1e-5
"""Posterior mass that a sparse mean may leave out. It costs at most (2 DROPPED_MASS)^2 = 4e-10 mean squared error."""


@dataclass(frozen=True)
class Means:
    """Posterior means of R records in [-1, 1], each sparse or dense.

    A record with `count >= 0` is sparse: its mean is sum_j weight_j x[entry_j] over its `count` pairs. `entry` and
    `weight` hold the pairs of all sparse records, record after record. A record with `count == -1` is dense: its mean
    is the next row of `dense`.
    """

    count: np.ndarray
    """int32 [R]"""
    entry: np.ndarray
    """uint32 [S], entries of the data set (see `TupleSource`)"""
    weight: np.ndarray
    """float32 [S]; the weights of a record sum to 1"""
    dense: np.ndarray
    """float16 [M, C, H, W]"""

    def __len__(self) -> int:
        return len(self.count)

    def slice(self, start: int, stop: int) -> "Means":
        """Records start .. stop - 1."""
        pairs = np.concatenate(([0], np.cumsum(np.maximum(self.count, 0), dtype=np.int64)))
        rows = np.concatenate(([0], np.cumsum(self.count < 0, dtype=np.int64)))
        a, b = pairs[start], pairs[stop]
        return Means(self.count[start:stop], self.entry[a:b], self.weight[a:b], self.dense[rows[start] : rows[stop]])

    def decode(self, store: ImageStore) -> np.ndarray:
        """The means as float32 [R, C, H, W] in [-1, 1]."""
        if len(self.dense) == len(self):
            return self.dense.astype(np.float32)
        out = np.empty((len(self), store.dim), np.float32)
        out[self.count < 0] = self.dense.reshape(len(self.dense), store.dim)
        sparse = np.flatnonzero(self.count >= 0)
        weighted_images(store, self.entry, self.weight, self.count[sparse], out, sparse)
        return out.reshape(len(self), *store.image_shape)


def pack_means(mean: np.ndarray, support: Sequence[tuple[np.ndarray, np.ndarray] | None], max_support: int) -> Means:
    """Choose sparse or dense for each record.

    Args:
        mean: float32 [R, C, H, W], stored by dense records.
        support: for each record its entries and weights in any order, or None if it must be dense.
        max_support: most pairs of a sparse record.
    """
    dense_bytes = 2 * int(np.prod(mean.shape[1:]))
    count = np.full(len(mean), -1, np.int32)
    entries, weights = [np.empty(0, np.uint32)], [np.empty(0, np.float32)]
    for row, pair in enumerate(support):
        if pair is None:
            continue
        entry, weight = _prune(*pair)
        if 8 * len(entry) < dense_bytes and len(entry) <= max_support:
            count[row] = len(entry)
            entries.append(entry.astype(np.uint32))
            weights.append(weight.astype(np.float32))
    dense = mean[count < 0].astype(np.float16)
    return Means(count, np.concatenate(entries), np.concatenate(weights), dense)


def _prune(entry: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop the smallest weights, up to DROPPED_MASS in total, and renormalise. Heaviest first, ties by entry."""
    order = np.lexsort((entry, -weight))
    entry, weight = entry[order], weight[order].astype(np.float64)
    total = weight.sum()
    kept = int(np.searchsorted(np.cumsum(weight), (1 - DROPPED_MASS) * total)) + 1
    weight = weight[:kept]
    return entry[:kept], weight / weight.sum()


@dataclass(frozen=True, kw_only=True)
class Records:
    """R records in order of their tuple id.

    `mean_next` is the posterior mean at the Euler point (z_euler, sigma_next), None unless solver = heun.
    `plain` holds the columns z and x of the self-contained mode; else it is empty.
    """

    tuple_id: np.ndarray
    """int64 [R]"""
    sigma: np.ndarray
    """float32 [R], noise level of the tuple"""
    sigma_next: np.ndarray | None
    """float32 [R], level of the teacher point; None where the noise distribution has none"""
    label: np.ndarray | None
    """int64 [R], class of the image that the tuple is made from; None where the data set has no labels"""
    mean: Means
    mean_next: Means | None
    ess: np.ndarray
    """float32 [R], effective sample size 1 / sum p^2 of the posterior (exact) or of the weights (sampled), >= 1"""
    top_weight: np.ndarray
    """float32 [R], the largest normalised weight, in (0, 1]"""
    variance: np.ndarray
    """float32 [R], posterior variance per dimension: no denoiser's loss at this z can be lower"""
    tail_mass: np.ndarray
    """float32 [R], estimated posterior mass not enumerated, in [0, 1]"""
    support_size: np.ndarray
    """int32 [R], neighbours or images that entered the estimate"""
    plain: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tuple_id)

    def slice(self, start: int, stop: int) -> "Records":
        """Records start .. stop - 1."""
        return Records(
            tuple_id=self.tuple_id[start:stop],
            sigma=self.sigma[start:stop],
            sigma_next=None if self.sigma_next is None else self.sigma_next[start:stop],
            label=None if self.label is None else self.label[start:stop],
            mean=self.mean.slice(start, stop),
            mean_next=None if self.mean_next is None else self.mean_next.slice(start, stop),
            **{name: getattr(self, name)[start:stop] for name in QUALITY_COLUMNS},
            plain={name: column[start:stop] for name, column in self.plain.items()},
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Flat named arrays, the inverse of `from_arrays`, with the names of the WebDataset members of a plain run."""
        arrays = {"tuple_id": self.tuple_id, "sigma": self.sigma}
        arrays |= {} if self.sigma_next is None else {"sigma_next": self.sigma_next}
        arrays |= {} if self.label is None else {"label": self.label}
        arrays |= {name: getattr(self, name) for name in QUALITY_COLUMNS}
        for target, means in (("mean", self.mean), ("mean_next", self.mean_next)):
            if means is not None:
                arrays |= {f"{target}.{name}": getattr(means, name) for name in ("count", "entry", "weight", "dense")}
        return arrays | self.plain

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], where: str) -> "Records":
        """Records from the arrays that `to_arrays` returned.

        Raises:
            ShardError: a column is missing, or lengths contradict each other.
        """
        try:
            means = {
                target: Means(*(arrays[f"{target}.{name}"] for name in ("count", "entry", "weight", "dense")))
                for target in ("mean", "mean_next")
                if any(name.startswith(f"{target}.") for name in arrays)
            }
            records = cls(
                tuple_id=arrays["tuple_id"],
                sigma=arrays["sigma"],
                sigma_next=arrays.get("sigma_next"),
                label=arrays.get("label"),
                mean=means["mean"],
                mean_next=means.get("mean_next"),
                **{name: arrays[name] for name in QUALITY_COLUMNS},
                plain={name: arrays[name] for name in PLAIN_COLUMNS if name in arrays},
            )
        except KeyError as error:
            raise ShardError(f"{where}: column {error} is missing") from error
        lengths = {len(column) for name, column in arrays.items() if "mean" not in name}
        for target in means.values():
            lengths.add(len(target))
            pairs = int(np.maximum(target.count, 0).sum())
            if (
                len(target.entry) != pairs
                or len(target.weight) != pairs
                or len(target.dense) != (target.count < 0).sum()
            ):
                raise ShardError(f"{where}: its columns contradict each other")
        if len(lengths) != 1:
            raise ShardError(f"{where}: columns of {sorted(lengths)} rows")
        return records
