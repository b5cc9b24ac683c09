"""Post-hoc averages: any power-function average as a combination of stored ones (Karras et al. 2024, Sec. 3.2)."""

import numpy as np


def coefficients(images: np.ndarray, gamma: np.ndarray, wanted_images: float, wanted_gamma: float) -> np.ndarray:
    """Factors x with which stored averages sum to the nearest of the wanted profile, float64 [n].

    The profile of an average after T images is p(t) = (gamma + 1) t^gamma / T^(gamma + 1) on [0, T]. The factors solve
    the least-squares problem A x = b with A_ij = <p_i, p_j>, b_i = <p_i, p> (Karras et al. 2024, Eq. 133 to 136).

    Args:
        images: images seen at each stored average, [n].
        gamma: its exponent, [n].
        wanted_images: images seen at the wanted average, at most the largest of `images`.
        wanted_gamma: its exponent.
    """
    images, gamma = np.asarray(images, np.float64), np.asarray(gamma, np.float64)
    a = _inner(images[:, None], gamma[:, None], images[None], gamma[None])
    b = _inner(images, gamma, np.full_like(images, wanted_images), np.full_like(gamma, wanted_gamma))
    # near-equal profiles make A close to singular: lstsq leaves out what float64 cannot tell apart
    return np.linalg.lstsq(a, b, rcond=None)[0]


def _inner(t_a: np.ndarray, gamma_a: np.ndarray, t_b: np.ndarray, gamma_b: np.ndarray) -> np.ndarray:
    """<p_a, p_b>, the integral of p_a p_b over [0, min(T_a, T_b)].

    = (gamma_a + 1)(gamma_b + 1) / (gamma_a + gamma_b + 1) (T_s / T_l)^gamma_l / T_l, s shorter, l longer.
    """
    longer = np.maximum(t_a, t_b)
    ratio = np.minimum(t_a, t_b) / longer
    exponent = np.where(t_a >= t_b, gamma_a, gamma_b)
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * ratio**exponent / longer
