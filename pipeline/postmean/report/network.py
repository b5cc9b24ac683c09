"""A trained denoiser as a deterministic estimator: its output for z is the mean."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.population import Population
from postmean.estimators.estimate import Estimate, Queries


@dataclass(frozen=True)
class NetworkEstimator:
    """D(z, sigma) of a network; its quality columns are unknown (NaN).

    Args:
        denoiser: z [B, C, H, W], sigma [B] -> mean [B, C, H, W].
    """

    population: Population
    denoiser: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def estimate(self, queries: Queries) -> Estimate:
        size = len(queries)
        with torch.inference_mode():
            z = queries.z.reshape(size, *self.population.store.image_shape)
            sigma = torch.from_numpy(queries.sigma).to(z.device)
            mean = self.denoiser(z, sigma).reshape(size, -1).to(torch.float32).cpu().numpy()
        unknown = np.full(size, np.nan)
        return Estimate(mean, [None] * size, unknown, unknown, unknown, unknown, np.zeros(size, np.int64))
