"""The baseline without a network: principal components, and in them a mixture of Gaussians. What a GAN has to beat.

Richardson and Weiss, 2018, "On GANs and GMMs", arXiv:1805.12462, found that such mixtures leave out less of the data
than GANs do, and are less sharp. EM: Dempster, Laird and Rubin, 1977; its start: Arthur and Vassilvitskii, 2007
(k-means++); components of wide rows: Halko, Martinsson and Tropp, 2011, arXiv:0909.4061, Algorithm 4.4.

    fit(images).sample(10_000)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SHARE = 0.95  # of the variance that is enough
EXACT = 2_048  # dimensions of a row up to which the covariance is diagonalised whole
ROUNDS = 6  # of subspace iteration, for wider rows
SAMPLED = 20_000  # rows that EM sees, and that components of wide rows are taken from
BLOCK = 4_000_000  # numbers of rows held at a time in fp64
STEPS = 100  # of EM at most
GAIN = 1e-4  # nats a row and dimension; a step of EM that gains less is the last
LEAST = -100.0  # log of a share; smaller ones change nothing, and what is not a normal number is slow
FLOOR = 1e-6  # added to variances, as a share of their mean


class Mixture(NamedTuple):
    """Gaussians: weights (M,), means (M, k), covariances (M, k, k)."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def log_densities(self, x: np.ndarray) -> np.ndarray:
        """log of weight times density of each Gaussian at points (N, k), in nats.  (N, M)"""
        found = np.empty((len(x), len(self.weights)))
        for j, (weight, mean, covariance) in enumerate(zip(*self, strict=True)):
            white = np.linalg.inv(np.linalg.cholesky(covariance))  # (k, k)
            away = (x - mean) @ white.T
            scale = np.log(weight) + np.log(np.diag(white)).sum() - x.shape[1] / 2 * np.log(2 * np.pi)
            found[:, j] = scale - np.einsum("nk,nk->n", away, away) / 2
        return found


@dataclass(frozen=True)
class Baseline:
    """What was fitted: of the rows their mean (D,) and components (k, D), and the mixture of their coordinates.

    shape, dtype: of one row, as samples are given back.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    mean: np.ndarray
    axes: np.ndarray
    mixture: Mixture

    def sample(self, n: int, *, seed: int = 0) -> np.ndarray:
        """Draw rows (n, *shape) in the source's type; uint8 is rounded and clipped."""
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(self.mixture.weights), n, p=self.mixture.weights)
        noise = rng.standard_normal((n, len(self.axes)))
        rows = np.empty((n, len(self.mean)), self.dtype)
        for start in range(0, n, at_once := max(1, BLOCK // len(self.mean))):
            part = slice(start, start + at_once)
            x = self.mean + self._coordinates(chosen[part], noise[part]) @ self.axes
            rows[part] = x.round().clip(0, 255) if self.dtype == np.uint8 else x
        return rows.reshape(n, *self.shape)

    def log_likelihood(self, rows: np.ndarray) -> np.ndarray:
        """The log density of rows (N, *shape) among the k components, in nats.  (N,)

        Raises ValueError for rows of another shape.
        """
        if rows.shape[1:] != self.shape:
            raise ValueError(f"the baseline is of rows of shape {self.shape}, not {rows.shape[1:]}")
        coordinates = [part @ self.axes.T for part in _centred(rows, self.mean)]
        return np.concatenate([_log_sums(self.mixture.log_densities(x)) for x in coordinates])

    def _coordinates(self, chosen: np.ndarray, noise: np.ndarray) -> np.ndarray:
        roots = np.linalg.cholesky(self.mixture.covariances)
        x = self.mixture.means[chosen]
        for j in np.unique(chosen):
            x[chosen == j] += noise[chosen == j] @ roots[j].T
        return x


def fit(rows: np.ndarray, *, components: int = 10, dimensions: int = 50, seed: int = 0) -> Baseline:
    """Fit to raw rows, uint8 or float, (N, *shape): `components` Gaussians with covariances of their own.

    dimensions: of the rows at most so many principal components are kept, or as many as hold 95 % of the variance.
    Raises ValueError if the rows are fewer than the Gaussians, not all finite, or all the same.
    """
    if rows.ndim < 2 or (rows.dtype != np.uint8 and not np.issubdtype(rows.dtype, np.floating)):
        raise ValueError(f"rows are uint8 or float, (N, …), not {rows.dtype} {rows.shape}")
    if components < 1 or dimensions < 1:
        raise ValueError(f"components and dimensions are 1 or more, not {components} and {dimensions}")
    if len(rows) < max(components, 2):
        raise ValueError(f"{components} Gaussians need {max(components, 2)} rows or more, not {len(rows)}")
    if rows.dtype != np.uint8 and not np.isfinite(rows).all():
        raise ValueError("rows are not all finite")
    rng = np.random.default_rng(seed)
    some = rows if len(rows) <= SAMPLED else rows[np.sort(rng.choice(len(rows), SAMPLED, replace=False))]
    wide = rows[0].size > EXACT
    mean, axes = (_widest if wide else _principal)(some if wide else rows, dimensions, rng)
    x = np.concatenate([part @ axes.T for part in _centred(some, mean)])  # (≤ SAMPLED, k)
    return Baseline(rows.shape[1:], rows.dtype, mean, axes, expectation_maximisation(x, start(x, components, rng)))


def start(x: np.ndarray, components: int, rng: np.random.Generator) -> Mixture:
    """The mixture of points (N, k) cut by their nearest of `components` centres, chosen by k-means++."""
    nearest = np.full(len(x), np.inf)
    owner = np.zeros(len(x), int)
    chosen = int(rng.integers(len(x)))
    for j in range(components):
        away = ((x - x[chosen]) ** 2).sum(1)
        owner[away < nearest] = j
        nearest = np.minimum(nearest, away)
        total = nearest.sum()
        chosen = int(rng.choice(len(x), p=nearest / total)) if total > 0 else int(rng.integers(len(x)))
    return maximisation(x, np.eye(components)[owner])


def expectation_maximisation(x: np.ndarray, mixture: Mixture) -> Mixture:
    """Fit a mixture to points (N, k) from a start, until a step gains less than 0.0001 nats a coordinate."""
    before = -np.inf
    for _ in range(STEPS):
        densities = mixture.log_densities(x)
        totals = _log_sums(densities)
        shares = np.exp((densities - totals[:, None]).clip(LEAST))
        mixture = maximisation(x, shares)
        if totals.mean() - before < GAIN * x.shape[1]:
            break
        before = totals.mean()
    return mixture


def maximisation(x: np.ndarray, shares: np.ndarray) -> Mixture:
    """The mixture whose Gaussians own these shares (N, M) of the points (N, k); a share of nothing is a point's."""
    counts = shares.sum(0) + 10 * np.finfo(float).eps  # (M,)
    means = shares.T @ x / counts[:, None]
    floor = FLOOR * x.var(0).mean() * np.eye(x.shape[1])
    covariances = np.empty((len(counts), *floor.shape))
    for j, mean in enumerate(means):
        away = (x - mean) * np.sqrt(shares[:, j, None])
        covariances[j] = away.T @ away / counts[j] + floor
    return Mixture(counts / counts.sum(), means, covariances)


def _principal(rows: np.ndarray, dimensions: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and principal components (k, D), exactly."""
    mean = rows.reshape(len(rows), -1).mean(0, dtype=np.float64)
    scatter = sum(part.T @ part for part in _centred(rows, mean))
    values, vectors = np.linalg.eigh(scatter)
    return mean, vectors.T[::-1][: _enough(values[::-1], np.trace(scatter), dimensions)]


def _widest(rows: np.ndarray, dimensions: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same by subspace iteration, which needs no (D, D) matrix."""
    mean = rows.reshape(len(rows), -1).mean(0, dtype=np.float64)
    total = sum(float(np.vdot(part, part)) for part in _centred(rows, mean))
    basis = rng.standard_normal((len(mean), min(dimensions + 10, len(rows), len(mean))))
    for _ in range(ROUNDS):
        basis, _ = np.linalg.qr(sum(part.T @ (part @ basis) for part in _centred(rows, mean)))
    seen = np.concatenate([part @ basis for part in _centred(rows, mean)])
    values, vectors = np.linalg.eigh(seen.T @ seen)
    return mean, (basis @ vectors).T[::-1][: _enough(values[::-1], total, dimensions)]


def _enough(values: np.ndarray, total: float, dimensions: int) -> int:
    """How many of the scatters along components, the largest first, hold 95 % of the total; at most `dimensions`."""
    if not total > 0:
        raise ValueError("the rows are all the same: there is nothing to fit")
    return min(dimensions, int(np.searchsorted(values.cumsum() / total, SHARE)) + 1, len(values))


def _centred(rows: np.ndarray, mean: np.ndarray) -> Iterator[np.ndarray]:
    """Rows (N, *shape) less their mean (D,), in portions (n, D) of fp64."""
    at_once = max(1, BLOCK // len(mean))
    for first in range(0, len(rows), at_once):
        part = rows[first : first + at_once]
        yield part.reshape(len(part), -1) - mean


def _log_sums(logs: np.ndarray) -> np.ndarray:
    """log Σ exp along the second axis.  (N, M) -> (N,)"""
    top = logs.max(1)
    return top + np.log(np.exp(logs - top[:, None]).sum(1))
