"""The Fréchet distance between two sets of features, each taken for a Gaussian.

Fréchet, 1957; Dowson and Landau, 1982; for generated images Heusel et al., 2017, arXiv:1706.08500, Equation 6.

    frechet_distance(Moments.of(drawn), Moments.of(real))
    frechet(drawn, Moments.of(real)).interval()
"""

from dataclasses import dataclass

import numpy as np

from elegan.metrics.estimate import Estimate

BLOCK = 4_096  # rows that are centred at a time
PANEL = 128  # rows of a triangular root that are multiplied at a time


@dataclass(frozen=True)
class Moments:
    """Count, mean (d,) and spread of features, in fp64.

    The spread is the centred rows themselves, (count, d), while they are fewer than dimensions: a small set's distance
    is then exact. From d rows on it is their second moment Σ (x − mean)(x − mean)ᵀ, (d, d).
    `a + b` are the moments of both sets together (Chan, Golub and LeVeque, 1983), so features may come in portions.
    """

    count: int
    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """The moments of features (N, d). Raises `ValueError` unless they are finite and N is 1 or more."""
        x = np.asarray(features)
        if x.ndim != 2 or not x.size:
            raise ValueError(f"features are (N, d) with N and d of 1 or more, not {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError("features are not all finite")
        count, d = x.shape
        mean = x.mean(0, dtype=np.float64)
        if count < d:
            return cls(count, mean, x - mean)
        scatter = np.zeros((d, d))
        for start in range(0, count, BLOCK):
            centred = x[start : start + BLOCK] - mean
            scatter += centred.T @ centred
        return cls(count, mean, scatter)

    @classmethod
    def given(cls, count: int, mean: np.ndarray, covariance: np.ndarray) -> "Moments":
        """Moments that were saved: of `count` samples, with mean (d,) and unbiased covariance (d, d).

        Raises `ValueError` unless they are finite, of one d, the covariance symmetric with a diagonal of 0 or more.
        """
        mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
        if mean.ndim != 1 or not mean.size or covariance.shape != 2 * mean.shape:
            raise ValueError(f"a mean of {mean.shape} has no covariance of {covariance.shape}")
        if count < 2:
            raise ValueError("a covariance needs two samples or more")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError("the mean or the covariance is not all finite")
        asymmetry = np.abs(covariance - covariance.T).max()
        if asymmetry > 1e-6 * np.abs(covariance).max() or (covariance.diagonal() < 0).any():
            raise ValueError("a covariance is symmetric, with a diagonal of 0 or more")
        return cls(count, mean, covariance * (count - 1))

    def __add__(self, other: "Moments") -> "Moments":
        _check(self, other)
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        if self.few and other.few and count < len(mean):
            return Moments(count, mean, np.concatenate([m.spread + (m.mean - mean) for m in (self, other)]))
        between = np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    def __sub__(self, part: "Moments") -> "Moments":
        """The moments of the other samples, where `part` holds fewer than all."""
        count = self.count - part.count
        mean = self.mean + (self.mean - part.mean) * (part.count / count)
        apart = part.mean - mean
        between = np.outer(apart, apart) * (count * part.count / self.count)
        return Moments(count, mean, self.scatter - part.scatter - between)

    @property
    def few(self) -> bool:
        """Whether the spread is the rows."""
        return len(self.spread) < len(self.mean)

    @property
    def scatter(self) -> np.ndarray:
        """Σ (x − mean)(x − mean)ᵀ, (d, d)."""
        return self.spread.T @ self.spread if self.few else self.spread

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, (d, d); needs two samples."""
        return self.scatter / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """‖μ₁ − μ₂‖² + Tr(C₁ + C₂ − 2 (C₁ C₂)^½), at least 0, in squared units of the features.

    Raises `ValueError` where dimensions differ or a set has one sample.
    """
    _check(a, b)
    if min(a.count, b.count) < 2:
        raise ValueError("a covariance needs two samples or more")
    apart = ((a.mean - b.mean) ** 2).sum()
    return max(float(apart + _variance(a) + _variance(b) - 2 * _shared(a, b)), 0.0)


def frechet(features: np.ndarray, reference: Moments) -> Estimate:
    """The Fréchet distance of features (N, d) to a reference held fixed, with the influence of each row x on it:

        2 (μ₁ − μ₂)·(x − μ₁) + Tr((I − T) ((x − μ₁)(x − μ₁)ᵀ − C₁)),   T = R₂ᵀ (R₂ C₁ R₂ᵀ)^(−½) R₂,   C₂ = R₂ᵀ R₂

    T is the linear map that carries C₁ over to C₂ (Bhatia, Jain and Lim, 2019, arXiv:1712.01504).
    Raises `ValueError` as `Moments.of` and `frechet_distance` do.
    """
    moments = Moments.of(features)
    value = frechet_distance(moments, reference)
    return Estimate(value, (influence(features, moments, reference),))


def influence(features: np.ndarray, moments: Moments, reference: Moments) -> np.ndarray:
    """What each row of features (N, d) weighs on their distance to `reference`, (N,); `moments` are the features'."""
    x, n = np.asarray(features), moments.count
    root = _root(reference)
    values, vectors = np.linalg.eigh(_congruent(root, moments.covariance))
    kept = _not_rounding(values)
    carry = root.T @ (vectors[:, kept] / values[kept] ** 0.25)  # (d, r), T = carry @ carry.T
    weights = np.empty(n)
    for start in range(0, n, BLOCK):
        rows = x[start : start + BLOCK] - moments.mean
        spread = (rows**2).sum(1) - ((rows @ carry) ** 2).sum(1)
        weights[start : start + BLOCK] = 2 * rows @ (moments.mean - reference.mean) + spread * n / (n - 1)
    return weights - weights.mean()


def _check(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions cannot be compared")


def _variance(moments: Moments) -> float:
    """Tr C."""
    total = (moments.spread**2).sum() if moments.few else moments.spread.trace()
    return float(total) / (moments.count - 1)


def _shared(a: Moments, b: Moments) -> float:
    """Tr (C₁ C₂)^½, the sum of the singular values of R₁ R₂ᵀ for any roots C = Rᵀ R.

    Of two small sets the roots are the rows. Else the singular values come from the eigenvalues of R₁ C₂ R₁ᵀ, which is
    symmetric, so that nothing imaginary can come up; C₁ is the covariance that is easier to take the root of.
    """
    one, two = sorted((a, b), key=lambda moments: (not moments.few, -moments.count))
    if two.few:
        return float(np.linalg.svd(_root(one) @ _root(two).T, compute_uv=False).sum())
    return float(np.sqrt(np.linalg.eigvalsh(_congruent(_root(one), two.covariance)).clip(0)).sum())


def _root(moments: Moments) -> np.ndarray:
    """R (r, d) with C = Rᵀ R: the rows; else Cholesky's, where a dead feature leaves no row; else by eigenvectors."""
    if moments.few:
        return moments.spread / np.sqrt(moments.count - 1)
    covariance = moments.covariance
    live = np.flatnonzero(covariance.diagonal())
    root = np.zeros((len(live), len(covariance)))
    try:
        root[:, live] = np.linalg.cholesky(covariance[np.ix_(live, live)]).T
    except np.linalg.LinAlgError:  # singular
        values, vectors = np.linalg.eigh(covariance)
        kept = _not_rounding(values)
        return (vectors[:, kept] * np.sqrt(values[kept])).T
    return root


def _congruent(root: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """R C Rᵀ, (r, r); where R is triangular only the lower triangle, which is what eigenvalues are taken of."""
    if np.tril(root, -1).any():
        return root @ covariance @ root.T
    product = np.zeros((len(root), len(root)))
    for j in range(0, len(root), PANEL):  # a third of the work: what lies left of and above j is 0
        product[j:, j : j + PANEL] = root[j:, j:] @ (covariance[j:, j:] @ root[j : j + PANEL, j:].T)
    return product


def _not_rounding(values: np.ndarray) -> np.ndarray:
    """Which eigenvalues, of a matrix that has none below 0, are more than rounding."""
    return values > values.max(initial=0.0) * len(values) * np.finfo(np.float64).eps
