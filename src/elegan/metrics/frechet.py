"""The Fréchet distance between two sets of features, each taken for a Gaussian.

Fréchet, 1957; Dowson and Landau, 1982; for generated images Heusel et al., 2017, arXiv:1706.08500, Equation 6.

    frechet_distance(Moments.of(drawn), Moments.of(real))
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Count, mean (d,) and centred second moment Σ (x − mean)(x − mean)ᵀ (d, d) of features, in fp64.

    `a + b` are the moments of both sets together (Chan, Golub and LeVeque, 1983), so features may come in portions.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """The moments of features (N, d)."""
        x = np.asarray(features, np.float64)
        if x.ndim != 2 or not len(x):
            raise ValueError(f"features are (N, d) with N of 1 or more, not {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError("features are not all finite")
        mean = x.mean(0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        apart = other.mean - self.mean
        between = np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, (d, d); needs two samples."""
        return self.scatter / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """‖μ₁ − μ₂‖² + Tr(C₁ + C₂ − 2 (C₁ C₂)^½), at least 0.

    The root's trace is that of (Rᵀ C₂ R)^½ with C₁ = R Rᵀ: a symmetric matrix, so nothing imaginary can come up, and
    stable where covariances are singular.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions cannot be compared")
    if min(a.count, b.count) < 2:
        raise ValueError("a covariance needs two samples or more")
    one, two = a.covariance, b.covariance
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(values.clip(0))  # (d, d), C₁ = root @ root.T
    shared = np.sqrt(np.linalg.eigvalsh(root.T @ two @ root).clip(0)).sum()
    distance = ((a.mean - b.mean) ** 2).sum() + np.trace(one) + np.trace(two) - 2 * shared
    return max(float(distance), 0.0)
