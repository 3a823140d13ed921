"""The inception score: how sure a classifier is of each sample, and how evenly it spreads over its classes.

Salimans et al., 2016, arXiv:1606.03498, section 4. It sees no real data: a game that draws one sure sample of each
class has the highest score. 1 is the least, the number of classes the most.
"""

import numpy as np

from elegan.metrics.estimate import Estimate

BLOCK = 4_096  # rows that are made fp64 at a time


def inception_score(probabilities: np.ndarray, *, splits: int = 10, seed: int = 0) -> tuple[float, float]:
    """Mean and deviation (ddof 0) of exp E KL(p(y|x) ‖ p(y)) over `splits` of the shuffled rows of (N, K).

    Each split has a p(y) of its own, so the mean grows with N: state N. Raises `ValueError` as
    `whole_inception_score` does, and where there are fewer rows than splits.
    """
    p = _distributions(probabilities)
    if not 1 <= splits <= len(p):
        raise ValueError(f"{len(p)} samples cannot be split in {splits}")
    order = np.random.default_rng(seed).permutation(len(p))
    values = [np.exp(_divergences(p[rows]).mean()) for rows in np.array_split(order, splits)]
    return float(np.mean(values)), float(np.std(values))


def whole_inception_score(probabilities: np.ndarray) -> Estimate:
    """exp E KL(p(y|x) ‖ p(y)) of all rows of (N, K) together, with the influence of each.

    Raises `ValueError` unless each row is finite, without negatives and sums to 1 (within 1e-3).
    """
    divergences = _divergences(_distributions(probabilities))
    value = float(np.exp(divergences.mean()))
    return Estimate(value, (value * (divergences - divergences.mean()),))


def _distributions(probabilities: np.ndarray) -> np.ndarray:
    p = np.asarray(probabilities)
    if p.ndim != 2 or not p.size:
        raise ValueError(f"probabilities are (N, K) with N and K of 1 or more, not {p.shape}")
    if not (np.isfinite(p).all() and (p >= 0).all() and (np.abs(p.sum(1, dtype=np.float64) - 1) < 1e-3).all()):
        raise ValueError("probabilities are not all 0 or more with a sum of 1 in each row")
    return p


def _divergences(p: np.ndarray) -> np.ndarray:
    """KL(p(y|x) ‖ p(y)) of each row, in nats, (N,), where 0 log 0 is 0."""
    marginal = _log(p.mean(0, dtype=np.float64))
    divergences = np.empty(len(p))
    for start in range(0, len(p), BLOCK):
        rows = p[start : start + BLOCK].astype(np.float64)
        divergences[start : start + BLOCK] = (rows * (_log(rows) - marginal)).sum(1)
    return divergences


def _log(p: np.ndarray) -> np.ndarray:
    return np.log(p, out=np.zeros_like(p), where=p > 0)
