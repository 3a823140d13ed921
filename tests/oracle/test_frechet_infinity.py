"""FD∞ against the known distance of Gaussians from which both sides are drawn afresh."""

import numpy as np
import pytest

from elegan.metrics.frechet import Moments, frechet_distance
from elegan.metrics.frechet_infinity import frechet_infinity

D = 32
BASIS = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0]
ONE, TWO = np.linspace(0.3, 1.5, D), np.linspace(0.2, 2.0, D)  # deviations along the same axes
APART = 0.5
TRUTH = APART**2 + ((ONE - TWO) ** 2).sum()


def drawn(seed: int, count: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, D)) * ONE @ BASIS + APART * BASIS[0]
    return x, rng.normal(size=(other, D)) * TWO @ BASIS


@pytest.mark.parametrize(("count", "other"), [(1_000, 1_000), (600, 1_500)])
def test_fresh_draws_of_both_sides_come_out_at_the_truth_and_their_intervals_hold_it(count, other):
    """Where the plain distance is a fifth too large, and half of its bias, that of one side, would be seen."""
    limits, plain, held = [], [], 0
    for seed in range(20):
        x, y = drawn(seed, count, other)
        estimate = frechet_infinity(x, y, seed=seed)
        low, high = estimate.interval()
        limits.append(estimate.value)
        plain.append(frechet_distance(Moments.of(x), Moments.of(y)))
        held += low <= TRUTH <= high
    assert np.mean(plain) > 1.15 * TRUTH
    assert np.mean(limits) == pytest.approx(TRUTH, rel=0.04)
    assert held >= 18
    stated = np.sqrt(sum(influence.var() / len(influence) for influence in estimate.influences))
    assert stated == pytest.approx(np.std(limits), rel=0.4)


def test_equal_distributions_come_out_around_0():
    values = []
    for seed in range(20):
        x, y = (np.random.default_rng([seed, side]).normal(size=(500, D)) for side in (0, 1))
        values.append(frechet_infinity(x, y, seed=seed).value)
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 0.05
    assert frechet_distance(Moments.of(x), Moments.of(y)) > 0.8


def test_in_one_dimension_it_is_the_jackknife_by_hand():
    """Both sides less a tenth: ten times the whole less nine times the mean of those."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=33), 1.5 * rng.normal(size=45)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2

    order = np.random.default_rng(7)
    folds_x, folds_y = np.array_split(order.permutation(33), 10), np.array_split(order.permutation(45), 10)
    fewer = [distance(np.delete(x, i), np.delete(y, j)) for i, j in zip(folds_x, folds_y, strict=True)]
    by_hand = 10 * distance(x, y) - 9 * np.mean(fewer)
    assert frechet_infinity(x[:, None], y[:, None], seed=7).value == pytest.approx(by_hand, rel=1e-9)


def test_the_seed_decides_and_nothing_else():
    x, y = drawn(0, 200, 300)
    first = frechet_infinity(x, y, seed=1)
    assert frechet_infinity(x, y, seed=1).value == first.value
    assert 0 < abs(frechet_infinity(x, y, seed=2).value - first.value) < 0.5
    assert [len(influence) for influence in first.influences] == [200, 300]


def test_too_few_samples_are_refused():
    x = np.random.default_rng(0).normal(size=(100, D))
    with pytest.raises(ValueError, match="35 samples are too few to extrapolate a distance in 32 dimensions"):
        frechet_infinity(x, x[:35])
    with pytest.raises(ValueError, match="too few"):
        frechet_infinity(x[:35], x)
    with pytest.raises(ValueError, match="9 samples are too few"):
        frechet_infinity(x[:9, :1], x[:, :1])
    assert frechet_infinity(x[:37], x).influences[0].shape == (37,)
