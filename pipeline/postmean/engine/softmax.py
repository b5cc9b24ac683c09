"""Normalised weights from log-weights, in numpy."""

import numpy as np


def softmax(log_weight: np.ndarray) -> np.ndarray:
    """exp(log_weight) / sum along the last axis, float64; subtracts the maximum first, so that nothing overflows."""
    weight = np.exp(log_weight - log_weight.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    return weight
