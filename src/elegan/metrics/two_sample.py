"""The classifier two-sample test: can a classifier, trained on some of two sets, tell the rest of them apart?

Lopez-Paz and Oquab, 2017, arXiv:1610.06545, section 3. Held out, it is right half of the time if the sets are of one
distribution.

    test = two_sample_test(features_of_real, features_of_drawn)
    test.accuracy.value, test.p_value
"""

from typing import Literal, NamedTuple

import numpy as np

from elegan.metrics import binomial, logistic
from elegan.metrics.estimate import Estimate

BLOCK = 8_000_000  # distances held at a time


class TwoSampleTest(NamedTuple):
    """accuracy: over `held_out` samples, half of each set. p_value: of so much if there were nothing to tell."""

    accuracy: Estimate
    p_value: float
    held_out: int


def two_sample_test(
    x: np.ndarray, y: np.ndarray, *, classifier: Literal["logistic", "neighbours"] = "logistic", seed: int = 0
) -> TwoSampleTest:
    """Train on one half of features (N, d) and (M, d), as many of each set, and test on the other.

    classifier: logistic regression, which sees what a hyperplane can part, such as means that differ; or the ⌊√n⌋
    nearest of n training samples, which see any difference, in few dimensions. seed: of the split.
    The p-value is one-sided and exact; of a classifier that leans to one of the sets it is larger than it need be.
    Raises ValueError if features differ in dimension, are not finite, or there are fewer than 4 of a set.
    """
    sets = [np.asarray(features, np.float64) for features in (x, y)]
    if any(s.ndim != 2 for s in sets) or sets[0].shape[1] != sets[1].shape[1]:
        raise ValueError(f"features are (N, d) and (M, d), not {sets[0].shape} and {sets[1].shape}")
    each = min(map(len, sets))
    if each < 4:
        raise ValueError(f"a test needs 4 samples of each set or more, not {each}")
    if not all(np.isfinite(s).all() for s in sets):
        raise ValueError("features are not all finite")
    rng = np.random.default_rng(seed)
    sets = [s[rng.permutation(len(s))[:each]] for s in sets]
    half = each // 2
    train, test = (np.concatenate([s[part] for s in sets]) for part in (slice(half), slice(half, None)))
    learnt, truth = (np.repeat([True, False], n) for n in (half, each - half))
    if classifier == "logistic":
        said = logistic.fit(train, learnt).scores(test) > 0
    else:
        said = _neighbours(train, learnt, test, rng)
    right = said == truth
    accuracy = Estimate(float(right.mean()), (right.astype(np.float64),))
    return TwoSampleTest(accuracy, binomial.tail(int(right.sum()), len(right)), len(right))


def _neighbours(train: np.ndarray, truth: np.ndarray, test: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What most of the ⌊√n⌋ nearest training samples are, of each test sample; of a tie, what a coin says.  (T,)"""
    k = max(1, int(np.sqrt(len(train))))
    middle = train.mean(0)
    train, test = train - middle, test - middle  # so that little is lost in differences of squares
    votes = np.empty(len(test))
    sizes = (train**2).sum(1)
    for start in range(0, len(test), at_once := max(1, BLOCK // len(train))):
        away = sizes - 2 * test[start : start + at_once] @ train.T  # less ‖test‖², the same for all
        votes[start : start + at_once] = truth[np.argpartition(away, k - 1, axis=1)[:, :k]].mean(1)
    return np.where(votes == 0.5, rng.random(len(votes)) < 0.5, votes > 0.5)
