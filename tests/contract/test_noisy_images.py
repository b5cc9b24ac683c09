"""z = x + sigma eps of a tuple has the same bits in every block."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from postmean.contract.image_store import to_unit
from postmean.contract.noise import LogNormalNoise
from postmean.contract.noisy import noisy
from postmean.contract.process import EDMProcess
from postmean.contract.tuples import TupleSource
from tests.support.posterior_examples import random_images, store_of


def test_z_is_the_float32_sum_and_does_not_depend_on_the_block(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", random_images(20, (3, 5, 7)))
    source = TupleSource(seed=4, images=20, flips=True, noise=LogNormalNoise(), process=EDMProcess())
    block = source.block(30, 60)
    assert (block.entry >= 20).any()  # flipped images too
    x, eps, z = noisy(source, store, block)
    assert x.shape == eps.shape == z.shape == (30, 3, 5, 7)
    assert x.dtype == eps.dtype == z.dtype == np.float32
    assert np.array_equal(x, to_unit(store.pixels(block.entry)))
    for row in range(30):
        one = block.select(np.array([row]))
        assert np.array_equal(z[row], x[row] + one.sigma[0] * eps[row])
        for together, alone in zip((x, eps, z), noisy(source, store, one), strict=True):
            assert np.array_equal(together[row], alone[0])
    louder = replace(block, sigma=np.full(30, 8.0, np.float32))
    assert np.array_equal(noisy(source, store, louder)[1], eps)
