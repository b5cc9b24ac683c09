"""The optimiser and its learning rate."""

import torch

from postmean.training.config import OptimiserConfig


def make_optimiser(config: OptimiserConfig, module: torch.nn.Module) -> torch.optim.Optimizer:
    """Adam or RAdam over all parameters."""
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.RAdam
    return kind(module.parameters(), lr=config.lr, betas=(config.beta1, config.beta2))


def learning_rate(config: OptimiserConfig, images: int) -> float:
    """Learning rate of the step that ends at `images` images seen."""
    rate = config.lr
    if config.warmup_kimg:
        rate *= min(1.0, images / (config.warmup_kimg * 1000))
    if config.decay_kimg:
        rate /= max(1.0, images / (config.decay_kimg * 1000)) ** 0.5
    return rate
