"""The kernel distance (KID): an unbiased squared MMD between two sets of features, under a cubic kernel.

Bińkowski et al., 2018, arXiv:1801.01401, section 4; the estimator is Equation 3 of Gretton et al., 2012 (JMLR 13).

    kid(drawn, real).interval()
    kid_subsets(drawn, real)  # mean and deviation over subsets, the form in which papers state it
"""

import numpy as np

from elegan.metrics.estimate import Estimate

BLOCK = 1_024  # rows against which rows are held at a time


def kid(x: np.ndarray, y: np.ndarray) -> Estimate:
    """The unbiased squared MMD of all of x (N, d) and all of y (M, d), with the influences of both sides.

    The kernel is (x·y/d + 1)³. The expectation is 0 for equal distributions, so the value may be negative; that of a
    set against itself is, as the sides are taken for independent.
    An influence is twice the sample's mean kernel with its own side less that with the other (Hájek's projection).
    Raises `ValueError` unless both are finite, of equal d, with two rows or more.
    """
    x, y = _features(x, y)
    own_x, own_y = _own_means(x), _own_means(y)
    sums_x, sums_y = _sums(x, y)
    apart_x, apart_y = own_x - sums_x / len(y), own_y - sums_y / len(x)
    return Estimate(float(apart_x.mean() + apart_y.mean()), (2 * apart_x, 2 * apart_y))


def kid_subsets(
    x: np.ndarray, y: np.ndarray, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Mean and deviation (ddof 0) of the KID of `subsets` pairs of subsets, each drawn without replacement.

    The deviation is that of one subset of `size`, not the error of the mean. For that, and for a value without the
    noise of subsets, see `kid`. Raises `ValueError` as `kid` does, and where a side has fewer than `size` rows.
    """
    x, y = _features(x, y)
    if subsets < 1 or not 2 <= size <= min(len(x), len(y)):
        raise ValueError(f"{subsets} subsets of {size} cannot be drawn from {len(x)} and {len(y)} samples")
    rng = np.random.default_rng(seed)
    values = [
        kid(x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)]).value
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def _features(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1:] != y.shape[1:] or min(*x.shape, *y.shape) < 1:
        raise ValueError(f"features are (N, d) and (M, d), not {x.shape} and {y.shape}")
    if min(len(x), len(y)) < 2:
        raise ValueError("a kernel distance needs two samples or more of each side")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features are not all finite")
    return x, y


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x·y/d + 1)³, (N, M)."""
    linear = x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1
    return linear * linear * linear


def _sums(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the kernel of each row of x sums to over y, (N,), and of each row of y over x, (M,)."""
    over_y, over_x = np.zeros(len(x)), np.zeros(len(y))
    for i in range(0, len(x), BLOCK):
        for j in range(0, len(y), BLOCK):
            kernel = _kernel(x[i : i + BLOCK], y[j : j + BLOCK])
            over_y[i : i + BLOCK] += kernel.sum(1)
            over_x[j : j + BLOCK] += kernel.sum(0)
    return over_y, over_x


def _own_means(x: np.ndarray) -> np.ndarray:
    """The mean kernel of each row with the others, (N,)."""
    sums = np.zeros(len(x))
    for i in range(0, len(x), BLOCK):
        block, later = x[i : i + BLOCK], x[i + BLOCK :]
        kernel = _kernel(block, block)
        np.fill_diagonal(kernel, 0)  # no sample is compared with itself: that is the bias
        over_later, over_block = _sums(block, later)
        sums[i : i + BLOCK] += kernel.sum(1) + over_later
        sums[i + BLOCK :] += over_block
    return sums / (len(x) - 1)
