"""The tuple contract: tuple n of a run is fully determined by (seed, n) and the settings of its source.

Counter-based random numbers (Philox 4x64, Salmon et al. 2011) keyed by the seed: any block of tuples, in any order and
on any machine, gives the same images, flips, noise levels and eps. eps is never stored.

A data set of N images has N *entries*, or 2N with flips: entry e is image e mod N, flipped where e >= N.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np

from postmean.base.errors import ConfigError
from postmean.contract.noise import AnyNoise
from postmean.contract.process import AnyProcess

# Philox has a 128-bit key: (seed, one of these), so that no two uses of a seed share random numbers.
_NOISE_LEVEL, _PERMUTATION, _EPS, _DRAWS = 1, 2, 3, 4

SIGMA_MIN, SIGMA_MAX = 1e-12, 1e12
"""Noise levels that estimators take. Beyond them float32 cannot hold z or the log-weights."""


@dataclass(frozen=True)
class TupleBlock:
    """Columns of n tuples, without eps: `TupleSource.eps` makes it where needed."""

    tuple_id: np.ndarray
    """int64 [n]"""
    entry: np.ndarray
    """int64 [n], the entry of the data set that the tuple is made from"""
    sigma: np.ndarray
    """float32 [n]"""
    sigma_next: np.ndarray | None
    """float32 [n], level of the teacher point; None where the noise distribution has none"""

    def __len__(self) -> int:
        return len(self.tuple_id)

    def select(self, rows: np.ndarray) -> "TupleBlock":
        """The tuples at these positions, or where a mask is true."""
        nxt = None if self.sigma_next is None else self.sigma_next[rows]
        return TupleBlock(self.tuple_id[rows], self.entry[rows], self.sigma[rows], nxt)


@dataclass(frozen=True, kw_only=True)
class TupleSource:
    """Makes the tuples of a run.

    Args:
        seed: any integer in [0, 2^63).
        images: N, the number of images in the store.
        flips: whether horizontally flipped images also count as data.
    """

    seed: int
    images: int
    flips: bool
    noise: AnyNoise
    process: AnyProcess

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed: expected 0 <= seed < 2^63, got {self.seed}")
        if self.images < 1:
            raise ConfigError(f"images: a tuple source needs at least one image, got {self.images}")
        with np.errstate(over="ignore", under="ignore"):
            # the outermost uniforms
            sigma = self.noise.levels(np.array([2.0**-53, 1 - 2.0**-53]), np.zeros(2, np.int64), self.process).sigma
        if not (sigma >= SIGMA_MIN).all() or not (sigma <= SIGMA_MAX).all():
            raise ConfigError(
                f"noise: sigma from {sigma[0]:g} to {sigma[1]:g}, expected within {SIGMA_MIN:g} to {SIGMA_MAX:g}: "
                "change the noise's parameters or the process"
            )

    @property
    def entries(self) -> int:
        """N, or 2N with flips."""
        return self.images * (2 if self.flips else 1)

    def image(self, entry: np.ndarray) -> np.ndarray:
        """Image in the store of each entry."""
        return entry % self.images

    def block(self, start: int, stop: int) -> TupleBlock:
        """Tuples start .. stop - 1, vectorised."""
        tuple_id = np.arange(start, stop, dtype=np.int64)
        levels = self.noise.levels(self._uniform(start, stop), tuple_id, self.process)
        return TupleBlock(tuple_id, self._entry(start, stop), levels.sigma, levels.sigma_next)

    def eps(self, tuple_id: Sequence[int] | np.ndarray, dim: int) -> np.ndarray:
        """Unit noise of these tuples, float32 [n, dim]."""
        out = np.empty((len(tuple_id), dim), np.float32)
        philox = np.random.Philox(key=_key(self.seed, _EPS))
        normals, fresh = np.random.Generator(philox), philox.state
        for row, n in zip(out, tuple_id, strict=True):
            # a new Philox for each tuple would ask the system for a random seed first: 8 us, a fifth of 3 072 normals
            fresh["state"]["counter"][:] = _counter(int(n))
            philox.state = fresh
            normals.standard_normal(dim, dtype=np.float32, out=row)
        return out

    def draws(self, tuple_id: int, point: int = 0) -> np.random.Generator:
        """The random generator of an estimator for this tuple: `point` 0 at z, then 1, 2, ... on the way to its teacher
        point."""
        return _generator(self.seed, _DRAWS, 2 * int(tuple_id) + point % 2, point // 2)

    def fingerprint(self) -> str:
        """Hash of a few tuples and their eps: it differs if the random numbers do (with another numpy, say)."""
        block = self.block(0, 64)
        digest = hashlib.sha256()
        digest.update(block.entry.tobytes())
        # 5 decimals: the last bit of exp and ndtri may differ between machines, which does no harm
        digest.update(" ".join(f"{value:.5e}" for value in block.sigma).encode())
        digest.update(self.eps(range(4), 256).tobytes())
        return digest.hexdigest()[:16]

    def _uniform(self, start: int, stop: int) -> np.ndarray:
        """Uniforms in (0, 1) of these tuples: words start .. stop - 1 of one long Philox stream."""
        philox = np.random.Philox(key=_key(self.seed, _NOISE_LEVEL), counter=start // 4)
        words = philox.random_raw(start % 4 + stop - start)[start % 4 :]
        # 52 random bits plus one half: with 53 bits the largest value would round to 1
        return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def _entry(self, start: int, stop: int) -> np.ndarray:
        """Entries: one permutation per epoch, so that every entry is visited equally often."""
        parts = []
        position = start
        while position < stop:
            epoch, offset = divmod(position, self.entries)
            count = min(self.entries - offset, stop - position)
            parts.append(_permutation(self.seed, epoch, self.entries)[offset : offset + count])
            position += count
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


_MAKING = Lock()
# a forked process must not find it held by a thread that it does not have
os.register_at_fork(before=_MAKING.acquire, after_in_parent=_MAKING.release, after_in_child=_MAKING.release)


def _permutation(seed: int, epoch: int, entries: int) -> np.ndarray:
    with _MAKING:  # threads that need the same one make it once
        return _made_permutation(seed, epoch, entries)


@lru_cache(maxsize=4)
def _made_permutation(seed: int, epoch: int, entries: int) -> np.ndarray:
    # sorting raw words depends on nothing but Philox itself, unlike Generator.permutation
    words = np.random.Philox(key=_key(seed, _PERMUTATION), counter=_counter(epoch)).random_raw(entries)
    order = _stable_order(words)
    order.flags.writeable = False
    return order


def _stable_order(words: np.ndarray) -> np.ndarray:
    """`np.argsort(words, kind="stable")`, some times faster: two words are hardly ever equal."""
    order = np.argsort(words)
    rising = words[order]
    return np.argsort(words, kind="stable") if (rising[1:] == rising[:-1]).any() else order


def _generator(seed: int, stream: int, index: int, second: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=_key(seed, stream), counter=_counter(index, second)))


def _key(seed: int, stream: int) -> np.ndarray:
    return np.array([seed, stream], np.uint64)


def _counter(index: int, second: int = 0) -> np.ndarray:
    # the indices are the highest words: streams of different ones are at least 2^128 blocks apart
    return np.array([0, 0, second, index], np.uint64)
