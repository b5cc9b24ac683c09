"""The product of z with pixels in bytes: one byte of z where that is precise enough, else two."""

import numpy as np
import pytest
import torch

from postmean.engine.products import Int8Queries


@pytest.mark.parametrize("needed", [0.0, 1e9, None])
def test_errors_are_as_said_and_below_what_is_needed(needed: float | None) -> None:
    rng = np.random.default_rng(0)
    z, s = rng.normal(0, 300, (40, 512)), rng.integers(-128, 128, (90, 512))
    sigma2 = rng.uniform(50, 5000, 40)
    allowed = torch.full((40,), needed) if needed is not None else torch.from_numpy(rng.uniform(0, 0.02, 40))
    queries = Int8Queries(torch.from_numpy(z.astype(np.float32)), torch.from_numpy(sigma2), 512, allowed.double())
    product = queries.times(torch.from_numpy(s.astype(np.int8)), 90).double().numpy()
    exact = (z @ s.T) / sigma2[:, None]
    error = (product - exact) / np.linalg.norm(s, axis=1)
    said = queries.error.numpy()
    one_byte = np.abs(z).max(1) / 127 / np.sqrt(12) / sigma2
    assert np.allclose(said, np.where(one_byte > allowed.numpy(), one_byte / 254, one_byte))
    assert (np.sqrt(np.square(error).mean(1)) < 1.3 * said + 1e-6).all()
