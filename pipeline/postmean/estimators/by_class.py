"""Exact posterior means within classes, many classes at a time, on a GPU.

A shard of a conditional run has a few queries of each class. One class at a time, a GPU would wait for launches. Here
classes of similar size share batched products: their queries are padded to as many as the class with most has, their
images to as many as the largest class has. The arithmetic is that of `exact` (docs/certificate.md).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from postmean.base.checks import FLOAT16_ERROR
from postmean.contract.image_store import ImageStore
from postmean.contract.settings import EstimatorSettings
from postmean.engine import norm_columns
from postmean.engine.class_blocks import Block, ClassBlocks
from postmean.engine.dense_means import ONE_BYTE
from postmean.engine.population import SCALE, from_integer_units, to_integer_units
from postmean.engine.products import LOW_UNIT, float16_products, split_float16, split_weights
from postmean.engine.ragged import moments
from postmean.engine.refine import NEEDED_ERROR
from postmean.estimators.auto import may_leave_out, may_round
from postmean.estimators.estimate import Estimate, Queries, assemble, checked_means
from postmean.estimators.exact import CANCELLING, LEFT_OUT

LARGEST = 2048
"""Most images of a class."""

WORKSPACE = 6 << 30
"""Bytes that a block needs beside the pixels."""

_SLOTS = 1 << 28  # values of z, products and means of a block at a time
_FEW = 8  # queries for fewer than one in so many classes are estimated class by class


@dataclass(frozen=True)
class ByClass:
    """The exact posterior mean over the class of each query.

    Args:
        max_support: most members of a support. left_out: most mass that a support leaves out.
        rounding: as for `dense_means`.
    """

    blocks: ClassBlocks
    max_support: int
    left_out: float
    rounding: float = 0.0

    def estimate(self, queries: Queries, label: np.ndarray) -> tuple[Estimate | None, np.ndarray]:
        """Estimates, whose supports hold entries, of the queries at these positions, int64; None if there are none.

        Left to the estimators of the classes: queries whose largest weights have to be recomputed, and too few queries.

        Args:
            label: int64 [B], the class of each query.
        """
        parts: list[Estimate] = []
        positions: list[np.ndarray] = []
        if len(np.unique(label)) * _FEW >= len(self.blocks.first):
            for block in self.blocks.blocks:
                rows = np.flatnonzero(np.isin(label, block.labels))
                for part in self._parts(block, rows, label):
                    estimate, kept = self._block(block, queries.select(part), label[part])
                    if estimate is not None:
                        parts.append(estimate)
                        positions.append(part[kept])
        if not parts:
            return None, np.zeros(0, np.int64)
        rows = np.sort(np.concatenate(positions))
        return assemble(parts, [np.searchsorted(rows, position) for position in positions]), rows

    def _parts(self, block: Block, rows: np.ndarray, label: np.ndarray) -> list[np.ndarray]:
        """The rows in parts with few enough queries of each class."""
        number = _number_within(label[rows])
        slots = max(1, _SLOTS // (len(block.labels) * (self.blocks.stored.shape[1] + 2 * block.rows)))
        parts = [rows[number // slots == part] for part in range(number.max(initial=-1) // slots + 1)]
        return [part for part in parts if len(part)]

    def _block(self, block: Block, queries: Queries, label: np.ndarray) -> tuple[Estimate | None, np.ndarray]:
        """Estimates of queries of a block's classes, and their positions."""
        blocks, device = self.blocks, queries.z.device
        group = np.searchsorted(block.labels, label)
        number = _number_within(label)
        groups, slots = len(block.labels), int(number.max()) + 1
        place = torch.from_numpy(group * slots + number).to(device)
        high, low, power = split_float16(to_integer_units(queries.z))
        scaled2 = torch.from_numpy((queries.sigma * SCALE) ** 2).to(device)
        scale = torch.exp2(power.to(torch.float64)) / scaled2
        pixels = blocks.pixels(block)
        left = high.new_zeros((2, groups * slots, pixels.shape[2]))
        left[0, place, : blocks.dim], left[1, place, : blocks.dim] = high, low
        both = left.view(2, groups, slots, -1).transpose(0, 1).reshape(groups, 2 * slots, -1)
        product = float16_products(both, pixels.transpose(1, 2)).view(groups, 2, slots, -1)
        product = product[:, 0].add_(product[:, 1], alpha=LOW_UNIT).reshape(groups * slots, -1)[place]
        first = torch.from_numpy(blocks.first[label]).to(device)
        norm2 = blocks.norm2[first[:, None] + torch.arange(block.rows, device=device)]
        half = (-0.5 / scaled2).to(torch.float32)[:, None]
        value = product.mul_(scale.to(torch.float32)[:, None]).addcmul_(norm2, half)
        # as in `log_weights`: what rounding z leaves out, and float32
        largest = value.masked_fill(norm2.isinf(), 0.0).abs().amax(1).to(torch.float64)
        lost = low.to(torch.float32).square().mean(1).sqrt().to(torch.float64) * scale * LOW_UNIT**2
        error = lost * blocks.spread + 3 * torch.finfo(torch.float32).eps * largest
        kept = np.flatnonzero((error <= NEEDED_ERROR).cpu().numpy())
        if len(kept) == 0:
            return None, kept
        weight = torch.softmax(value, 1, out=value)
        mean_s = self._means(weight, place, pixels, groups * slots)
        second = (weight * norm2.masked_fill_(norm2.isinf(), 0.0)).sum(1).to(torch.float64)
        variance = (second - mean_s.to(torch.float64).square().sum(1)) / blocks.dim / SCALE**2
        ess = 1 / torch.linalg.vector_norm(weight, dim=1).to(torch.float64).square()
        columns = torch.stack([variance, ess, weight.amax(1).to(torch.float64)]).cpu().numpy()[:, kept]
        sparse, bounds, member, of_member = self._supports(weight, blocks.first[label], kept)
        support: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(kept)
        if len(sparse):
            sums, spread = moments(blocks, bounds, member, of_member)
            mean_s[torch.from_numpy(kept[sparse]).to(device)] = sums
            few = np.diff(bounds) <= CANCELLING
            columns[0, sparse[few]] = spread[few]
        for row, start, stop in zip(sparse.tolist(), bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            support[row] = (blocks.entry[member[start:stop]], of_member[start:stop])
        kept_queries = queries.select(kept)
        estimate = Estimate(
            mean=checked_means(from_integer_units(mean_s[torch.from_numpy(kept).to(device)]), kept_queries.sigma),
            support=support,
            ess=np.maximum(columns[1], 1.0),
            top_weight=columns[2],
            variance=np.maximum(columns[0], 0.0),
            tail_mass=np.zeros(len(kept)),
            support_size=self._sizes[label[kept]],
        )
        return estimate, kept

    def _means(self, weight: torch.Tensor, place: torch.Tensor, pixels: torch.Tensor, slots: int) -> torch.Tensor:
        """Weighted sums of pixels in integer units, float32 [B, D], with weights in float16 as in `dense_means`."""
        parts = [torch.empty_like(weight, dtype=torch.float16) for _ in range(2 if self.rounding < ONE_BYTE else 1)]
        split_weights(weight, parts[0], parts[1] if len(parts) == 2 else None)
        left = parts[0].new_zeros((len(parts), slots, weight.shape[1]))
        for part, out in zip(parts, left, strict=True):
            out[place] = part
        by_group = left.view(len(parts), len(pixels), -1, weight.shape[1]).transpose(0, 1)
        product = float16_products(by_group.reshape(len(pixels), -1, weight.shape[1]), pixels)
        total, *low = product.view(len(pixels), len(parts), -1, product.shape[2]).unbind(1)
        if low:
            total = total.add_(low[0], alpha=LOW_UNIT)
        total = total.reshape(slots, -1)[place]
        return total[:, : self.blocks.dim] / norm_columns.mass(total, self.blocks.dim)[:, None]

    def _supports(
        self, weight: torch.Tensor, first: np.ndarray, kept: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rows whose mass few members hold, as positions among `kept`; bounds, members and weights of supports."""
        most = min(self.max_support, weight.shape[1])
        if most == 0:
            none = np.zeros(0, np.int64)
            return none, none, none, none
        largest = weight.topk(most, 1)
        top, column = largest.values.cpu().numpy()[kept], largest.indices.cpu().numpy()[kept]
        mass = top.cumsum(1, dtype=np.float64)
        needed = (mass < 1 - self.left_out).sum(1) + 1
        sparse = np.flatnonzero(needed <= most)
        taken = np.arange(most) < needed[sparse, None]
        total = mass[sparse, needed[sparse] - 1]
        bounds = np.concatenate([[0], np.cumsum(needed[sparse])])
        member = (column[sparse] + first[kept][sparse, None])[taken]
        weights = (top[sparse] / total[:, None])[taken].astype(np.float32)
        return sparse, bounds, member, weights

    @cached_property
    def _sizes(self) -> np.ndarray:
        assert self.blocks.store.labels is not None
        return np.bincount(self.blocks.store.labels, minlength=len(self.blocks.first))


def _number_within(label: np.ndarray) -> np.ndarray:
    """Number of each element among those equal to it, in order, int64."""
    order = np.argsort(label, kind="stable")
    number = np.empty(len(label), np.int64)
    number[order] = np.arange(len(label)) - np.searchsorted(label[order], label[order])
    return number


def by_class(settings: EstimatorSettings, store: ImageStore, device: str, max_support: int) -> ByClass | None:
    """Classes of a store together; None for other estimators than `auto` and `exact`, on a CPU, where a class is too
    large, or where the GPU has no room for all pixels."""
    if device == "cpu" or settings.name not in ("auto", "exact") or store.labels is None:
        return None
    if np.bincount(store.labels).max() > LARGEST:
        return None
    blocks = ClassBlocks.of(store, device, WORKSPACE)
    if blocks is None or settings.name == "exact":
        return blocks and ByClass(blocks, max_support, LEFT_OUT)
    tolerance = settings.tolerance - FLOAT16_ERROR
    return ByClass(blocks, max_support, may_leave_out(tolerance), may_round(tolerance))
