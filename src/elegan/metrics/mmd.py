"""The maximum mean discrepancy with Gaussian kernels: do two sets look drawn from one distribution?

Gretton et al., 2012, Journal of Machine Learning Research 13, Equation 3; the bandwidth by the median of distances,
section 8; several bandwidths at once as in Li et al., 2015 (arXiv:1502.02761).

    mmd(drawn, real)
"""

from collections.abc import Sequence

import numpy as np

from elegan.metrics.estimate import Estimate
from elegan.metrics.neighbours import checked, squared_distances

POOLED = 2_000  # rows that the median of distances is taken of


def mmd(
    x: np.ndarray,
    y: np.ndarray,
    *,
    bandwidth: float | None = None,
    scales: Sequence[float] = (0.5, 1.0, 2.0),
    seed: int = 0,
) -> Estimate:
    """The unbiased squared MMD of features x (N, d) and y (M, d): about 0, and below it as often, where they are alike.

    k(x, y) is the mean over `scales` s of exp(−|x − y|² / (2 (s · bandwidth)²)); without a `bandwidth`, that of
    `median_distance(x, y, seed=seed)`. Both sets carry the interval; the bandwidth is held fixed.
    ValueError if features do not match, are not finite, fewer than two, or a bandwidth or scale is not above 0.
    """
    x, y = checked(x, y, least=2)
    bandwidth = median_distance(x, y, seed=seed) if bandwidth is None else bandwidth
    rates = [0.5 / (s * bandwidth) ** 2 if s * bandwidth > 0 else np.nan for s in scales]
    if not rates or not np.isfinite(rates).all():
        raise ValueError(f"bandwidth {bandwidth:g} and scales {tuple(scales)} are not all above 0")
    xx, yy = _within(x, rates), _within(y, rates)
    xy, yx = np.empty(len(x)), np.zeros(len(y))
    for rows, squared in squared_distances(x, y):
        kernel = _kernel(squared, rates)
        xy[rows] = kernel.mean(1)
        yx += kernel.sum(0) / len(x)
    return Estimate(float(xx.mean() + yy.mean() - 2 * xy.mean()), [2 * (xx - xy), 2 * (yy - yx)])


def median_distance(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> float:
    """The median distance of two rows of x (N, d) and y (M, d) together, of pairs that are apart; 1 if none is.

    Of more than 2,000 rows, 2,000 are drawn by `seed`.
    """
    both = np.concatenate(checked(x, y))
    if len(both) > POOLED:
        both = both[np.random.default_rng(seed).choice(len(both), POOLED, replace=False)]
    squared = np.concatenate([block for _, block in squared_distances(both)])[np.triu_indices(len(both), 1)]
    apart = squared[squared > 0]
    return float(np.sqrt(np.median(apart))) if len(apart) else 1.0


def _within(x: np.ndarray, rates: Sequence[float]) -> np.ndarray:
    """Of each row its mean kernel with the others, (N,)."""
    return np.concatenate([_kernel(d, rates).sum(1) - 1 for _, d in squared_distances(x)]) / (len(x) - 1)


def _kernel(squared: np.ndarray, rates: Sequence[float]) -> np.ndarray:
    return np.mean([np.exp(-rate * squared) for rate in rates], axis=0)
