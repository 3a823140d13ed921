"""Logistic regression with an L2 penalty, by Newton's method: the plainest classifier that has one best solution.

right = fit(x, is_real).scores(y) > 0
"""

from dataclasses import dataclass

import numpy as np

STEPS = 100
TOLERANCE = 1e-10  # of a step, against the weights


@dataclass(frozen=True)
class Logistic:
    """Weights (d,) of standardised features, a bias, and how features are standardised: shift and scale (d,)."""

    weights: np.ndarray
    bias: float
    shift: np.ndarray
    scale: np.ndarray

    def scores(self, x: np.ndarray) -> np.ndarray:
        """The log odds of features (N, d).  (N,)"""
        return (np.asarray(x, np.float64) - self.shift) / self.scale @ self.weights + self.bias


def fit(x: np.ndarray, yes: np.ndarray, *, penalty: float = 1.0) -> Logistic:
    """Minimise Σ log(1 + exp(∓score)) + penalty/2 ‖weights‖² over features (N, d) and what is so of them, bool (N,).

    Features are first brought to mean 0 and deviation 1; a constant one is left out by a scale of 1. The bias is free.
    Raises ValueError if there are no two sides, or the shapes do not fit.
    """
    x, yes = np.asarray(x, np.float64), np.asarray(yes, bool)
    if x.ndim != 2 or yes.shape != (len(x),):
        raise ValueError(f"features are (N, d) with one truth each, not {x.shape} and {yes.shape}")
    if yes.all() or not yes.any():
        raise ValueError("a classifier needs samples of both sides")
    shift, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-12 * np.maximum(1.0, np.abs(shift)), scale, 1.0)
    design = np.column_stack([(x - shift) / scale, np.ones(len(x))])  # (N, d + 1)
    signs = np.where(yes, 1.0, -1.0)
    ridge = np.append(np.full(x.shape[1], penalty), 0.0)
    w = np.zeros(len(ridge))

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -signs * (design @ w)).sum() + ridge @ w**2 / 2)

    for _ in range(STEPS):
        p = np.exp(-np.logaddexp(0, -(design @ w)))  # σ, without overflow
        weighed = design * np.sqrt(p * (1 - p))[:, None]
        hessian = weighed.T @ weighed + np.diag(ridge + 1e-12)
        step = np.linalg.solve(hessian, design.T @ (p - yes) + ridge * w)
        here = loss(w)
        while loss(w - step) > here and np.abs(step).max() > TOLERANCE:  # Newton may overshoot where σ is flat
            step /= 2
        w = w - step
        if np.abs(step).max() <= TOLERANCE * max(1.0, np.abs(w).max()):
            break
    return Logistic(w[:-1], float(w[-1]), shift, scale)
