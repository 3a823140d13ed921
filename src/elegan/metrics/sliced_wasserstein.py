"""The sliced Wasserstein distance: along many directions, how far sorted projections are apart.

Rabin et al., 2011; Bonneel et al., 2015, section 3. `mind` is the same measure on the scale of a Fréchet distance.

    sliced_wasserstein(drawn, real)
"""

import numpy as np

from elegan.metrics.estimate import Estimate
from elegan.metrics.neighbours import checked

BLOCK = 4_000_000  # projections held at a time


def sliced_wasserstein(
    x: np.ndarray, y: np.ndarray, *, directions: int = 1_000, order: float = 2, seed: int = 0
) -> Estimate:
    """(E over directions θ of W_p(θ·x, θ·y)^p)^(1/p), p = `order`, of features x (N, d) and y (M, d), in their units.

    Both sets carry the interval, the directions do not: they are those of `seed`. A plug-in value: samples of one and
    the same distribution are some way apart, the farther the fewer they are.
    ValueError if features do not match or are not finite, or for an order below 1 or no directions.
    """
    cost, potentials = _mean_cost(x, y, directions, order, seed)
    slope = cost ** (1 / order - 1) / order if cost else 0.0
    return Estimate(cost ** (1 / order), [slope * potential for potential in potentials])


def mind(x: np.ndarray, y: np.ndarray, *, directions: int = 1_000, seed: int = 0) -> Estimate:
    """3 d times the mean over directions of W₂², of features x (N, d) and y (M, d): the Monge inception distance.

    Berthet et al., 2026, arXiv:2605.06797. Errors as of `sliced_wasserstein`.
    """
    cost, potentials = _mean_cost(x, y, directions, 2, seed)
    scale = 3 * np.shape(x)[1]
    return Estimate(scale * cost, [scale * potential for potential in potentials])


def _mean_cost(
    x: np.ndarray, y: np.ndarray, directions: int, order: float, seed: int
) -> tuple[float, tuple[np.ndarray, np.ndarray]]:
    """The mean over directions of W_p^p, and the mean potentials of x (N,) and y (M,), its first-order influences."""
    x, y = (np.asarray(z, np.float64) for z in checked(x, y))
    if directions < 1 or not 1 <= order < np.inf:
        raise ValueError(f"{directions} directions of order {order}: both are 1 or more")
    n, m = len(x), len(y)
    cuts = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # where either quantile function steps, × n m
    width, of_x, of_y = np.diff(cuts, prepend=0) / (n * m), (cuts - 1) // m, (cuts - 1) // n
    rng, at_once, total = np.random.default_rng(seed), max(1, BLOCK // (n + m)), 0.0
    x_potential, y_potential = np.zeros(n), np.zeros(m)
    for start in range(0, directions, at_once):
        theta = rng.normal(size=(min(at_once, directions - start), x.shape[1]))
        theta /= np.linalg.norm(theta, axis=1, keepdims=True)
        x_order, y_order = np.argsort(a := theta @ x.T, axis=1), np.argsort(b := theta @ y.T, axis=1)
        a, b = np.take_along_axis(a, x_order, 1), np.take_along_axis(b, y_order, 1)  # (directions, N), (directions, M)
        total += float((np.abs(a[:, of_x] - b[:, of_y]) ** order @ width).sum())
        x_potential += np.bincount(x_order.ravel(), _potential(a, b, order).ravel())
        y_potential += np.bincount(y_order.ravel(), _potential(b, a, order).ravel())
    return total / directions, (x_potential / directions, y_potential / directions)


def _potential(a: np.ndarray, b: np.ndarray, order: float) -> np.ndarray:
    """Kantorovich's potential of sorted a (D, N) against sorted b (D, M), 0 at the first: (D, N).

    Between neighbours in a it grows by what both would pay to the point of b at the level that parts them; where b
    steps there too, its two points count half each.
    """
    n, m = a.shape[1], b.shape[1]
    level = np.arange(1, n) * m
    steps = np.zeros(a.shape)
    for at in ((level - 1) // n, level // n):
        goal = b[:, at]
        steps[:, 1:] += (np.abs(a[:, 1:] - goal) ** order - np.abs(a[:, :-1] - goal) ** order) / 2
    return steps.cumsum(1)
