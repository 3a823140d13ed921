"""The maximum mean discrepancy against the closed form of Gaussians and whole kernel matrices."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import rbf_kernel

from elegan.metrics import neighbours
from elegan.metrics.mmd import median_distance, mmd

RNG = np.random.default_rng(11)


def expected_kernel(width: float, deviations: tuple[float, float], shift: float, d: int) -> float:
    """E exp(−|x − y|² / 2w²) for x ~ N(0, s² I), y ~ N(δ, t² I)."""
    total = width**2 + deviations[0] ** 2 + deviations[1] ** 2
    return (width**2 / total) ** (d / 2) * np.exp(-(shift**2) / (2 * total))


def truth(scales: tuple[float, ...], width: float, one: float, two: float, shift: float, d: int) -> float:
    pairs = ((one, one, 0.0, 1), (two, two, 0.0, 1), (one, two, shift, -2))
    return float(np.mean([sum(w * expected_kernel(s * width, (a, b), δ, d) for a, b, δ, w in pairs) for s in scales]))


def test_it_is_the_statistic_of_whole_kernel_matrices(monkeypatch):
    x, y = RNG.normal(size=(30, 4)), RNG.normal(size=(20, 4)) + 0.5
    matrices = [
        np.mean([rbf_kernel(a, b, gamma=0.5 / (s * 1.7) ** 2) for s in (0.5, 1, 2)], axis=0)
        for a, b in ((x, x), (y, y), (x, y))
    ]
    xx, yy, xy = matrices
    expected = (xx.sum() - 30) / (30 * 29) + (yy.sum() - 20) / (20 * 19) - 2 * xy.mean()
    assert mmd(x, y, bandwidth=1.7).value == pytest.approx(expected, rel=1e-11)
    assert mmd(y, x, bandwidth=1.7).value == pytest.approx(expected, rel=1e-11)
    whole, turned = mmd(x, y, bandwidth=1.7), mmd(y, x, bandwidth=1.7)
    monkeypatch.setattr(neighbours, "BLOCK", 70)
    blocks = mmd(x, y, bandwidth=1.7)
    assert blocks.value == pytest.approx(expected, rel=1e-11)
    for one, two, three in zip(whole.influences, blocks.influences, turned.influences[::-1], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-12)
        np.testing.assert_allclose(one, three, atol=1e-12)


def test_it_is_unbiased_and_its_interval_holds_the_truth():
    """Forty draws of two Gaussians: their mean is the closed form within its error, intervals hold it in 34 or more."""
    case = dict(scales=(0.5, 1.0, 2.0), width=2.0, one=1.0, two=1.3, shift=0.6, d=4)
    exact, rng, found, held = truth(**case), np.random.default_rng(0), [], 0
    for _ in range(40):
        x, y = rng.normal(size=(150, 4)), 1.3 * rng.normal(size=(200, 4)) + [0.6, 0, 0, 0]
        estimate = mmd(x, y, bandwidth=2.0)
        low, high = estimate.interval()
        found.append(estimate.value)
        held += low <= exact <= high
    assert np.mean(found) == pytest.approx(exact, abs=3 * np.std(found) / 40**0.5)
    assert abs(np.mean(found) - exact) < 0.1 * exact
    assert held >= 34


def test_alike_it_is_about_zero_and_below_it_as_often():
    rng = np.random.default_rng(2)
    found = [mmd(rng.normal(size=(50, 3)), rng.normal(size=(50, 3)), bandwidth=1.5).value for _ in range(60)]
    assert 20 <= sum(value < 0 for value in found) <= 48
    assert abs(np.mean(found)) < 3 * np.std(found) / 60**0.5


def test_influences_are_derivatives():
    """Those of the V-statistic with a sample's weight moved, up to the N / (N − 1) of the U-statistic."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(400, 3)), rng.normal(size=(300, 3)) + 0.7
    found = mmd(x, y, bandwidth=1.5, scales=(1.0,))
    xx, yy, xy = (np.exp(-cdist(a, b, "sqeuclidean") / 4.5) for a, b in ((x, x), (y, y), (x, y)))
    weights, step = np.full(400, 1 / 400), 1e-6

    def value(p: np.ndarray) -> float:
        return p @ xx @ p + yy.mean() - 2 * p @ xy.mean(1)

    for row in (0, 7, 399):
        moved = (1 - step) * weights
        moved[row] += step
        change = (value(moved) - value(weights)) / step
        influence = found.influences[0]
        assert change == pytest.approx(influence[row] - influence.mean(), abs=6e-3)
    assert [len(influence) for influence in found.influences] == [400, 300]


def test_the_bandwidth_is_the_median_of_distances():
    x, y = RNG.normal(size=(30, 4)), RNG.normal(size=(21, 4)) + 3
    median = np.median(pdist(np.concatenate([x, y])))
    assert median_distance(x, y) == pytest.approx(median, rel=1e-12)
    assert mmd(x, y).value == pytest.approx(mmd(x, y, bandwidth=median).value, rel=1e-12)
    assert mmd(x, y).value != pytest.approx(mmd(x, y, bandwidth=2 * median).value, rel=0.01)
    many = RNG.normal(size=(3_000, 2))
    zero, one = (median_distance(many, many[:10], seed=seed) for seed in (0, 1))
    assert zero != one
    assert zero == pytest.approx(np.median(pdist(many)), rel=0.03)


def test_constant_sets_have_a_distance():
    same = np.full((5, 3), 0.1)
    assert median_distance(same, same) == 1
    assert mmd(same, same).value == 0
    apart = mmd(same, same + 1, scales=(1.0,)).value  # the median of those apart is √3
    assert apart == pytest.approx(2 - 2 * np.exp(-0.5), rel=1e-9)


def test_what_cannot_be_compared_is_refused():
    x = np.ones((3, 2))
    with pytest.raises(ValueError, match="2 or more"):
        mmd(x, x[:1])
    with pytest.raises(ValueError, match="2 and of 1 dimensions"):
        mmd(x, x[:, :1])
    for wrong in (dict(bandwidth=0.0), dict(bandwidth=-1.0), dict(scales=()), dict(scales=(1.0, 0.0))):
        with pytest.raises(ValueError, match="not all above 0"):
            mmd(x, x, **wrong)
