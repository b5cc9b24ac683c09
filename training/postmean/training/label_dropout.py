"""Label dropout, so that one network is both a conditional and an unconditional denoiser."""

from dataclasses import replace

import numpy as np
import torch

from postmean.training.stream.batch import TargetBatch


def drop_labels(batch: TargetBatch, rate: float, classes: int, batch_size: int, seed: int, step: int) -> TargetBatch:
    """The batch with each label replaced by number `classes`, which means none, with probability `rate`.

    The target of such a tuple is its image x, in place of E[x | z, sigma, label], which knows the label. Labels are
    dropped independently of the tuple, so E[x | z, sigma, dropped] is the unconditional mean: x is unbiased for it, as
    in the usual training with single samples (Ho & Salimans 2022), and as noisy. Its variance column is 0, since x adds
    no known part to the loss. Other tuples keep their exact targets.

    Which labels are dropped is a function of (seed, step, tuple), whatever the number of ranks.

    Args:
        batch: a rank's part of a step, with labels.
        batch_size: tuples of a step, over all ranks.
    """
    assert batch.label is not None
    # the last number keeps these draws apart from others of the same seed and step
    drawn = np.random.default_rng([seed, step, 0x1ABE1]).random(batch_size) < rate
    dropped = torch.from_numpy(drawn)[batch.tuple_id.cpu() % batch_size].to(batch.label.device)
    return replace(
        batch,
        label=batch.label.masked_fill(dropped, classes),
        mean=torch.where(dropped[:, None, None, None], batch.x, batch.mean),
        variance=batch.variance.masked_fill(dropped, 0),
        ess=batch.ess.masked_fill(dropped, 1),
        top_weight=batch.top_weight.masked_fill(dropped, 1),
    )
