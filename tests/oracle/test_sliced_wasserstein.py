"""The sliced Wasserstein distance against scipy's in one dimension, and closed forms in many."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from elegan.metrics import sliced_wasserstein as module
from elegan.metrics.sliced_wasserstein import mind, sliced_wasserstein

RNG = np.random.default_rng(7)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 60), (41, 60), (7, 100), (1, 5)])
def test_in_one_dimension_it_is_scipys(n, m):
    x, y = RNG.normal(size=(n, 1)), RNG.exponential(size=(m, 1))
    found = sliced_wasserstein(x, y, order=1, directions=3).value
    assert found == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(("n", "m"), [(12, 12), (8, 12)])
def test_in_one_dimension_it_is_the_best_assignment(n, m, order):
    """Each sample as many times as make the sets equal in number, matched by the Hungarian method."""
    x, y = RNG.normal(size=(n, 1)), RNG.normal(size=(m, 1)) * 2
    both = np.lcm(n, m)
    cost = cdist(x.repeat(both // n, 0), y.repeat(both // m, 0)) ** order
    expected = cost[linear_sum_assignment(cost)].mean() ** (1 / order)
    assert sliced_wasserstein(x, y, order=order, directions=2).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("d", [2, 10, 50])
def test_a_shift_is_its_length_over_the_root_of_d(d):
    """W₂² along θ is (δ·θ)², of mean |δ|² / d over the sphere."""
    x, shift = RNG.normal(size=(30, d)), RNG.normal(size=d)
    expected = (shift**2).sum() / d
    assert sliced_wasserstein(x, x + shift, directions=20_000).value ** 2 == pytest.approx(expected, rel=0.05)
    assert mind(x, x + shift, directions=20_000).value == pytest.approx(3 * (shift**2).sum(), rel=0.05)


def test_a_scale_is_its_difference():
    """N(0, I) and N(0, s² I) project to deviations 1 and s: W₂ = |1 − s| along every direction."""
    x = RNG.normal(size=(20_000, 3))
    assert sliced_wasserstein(x, 2.5 * x, directions=200).value == pytest.approx(1.5, rel=0.02)


def test_order_one_and_two_differ_as_mean_and_root_mean_square():
    """Along directions in the plane a shift of length 1 is |cos|: mean 2/π, mean square 1/2."""
    x, shift = RNG.normal(size=(5, 2)), np.array([1.0, 0.0])
    assert sliced_wasserstein(x, x + shift, order=1, directions=20_000).value == pytest.approx(2 / np.pi, rel=0.02)
    assert sliced_wasserstein(x, x + shift, directions=20_000).value == pytest.approx(0.5**0.5, rel=0.02)


def test_the_seed_chooses_the_directions_and_blocks_do_not(monkeypatch):
    x, y = RNG.normal(size=(50, 4)), RNG.normal(size=(30, 4)) + 1
    zero, one = (sliced_wasserstein(x, y, directions=10, seed=seed) for seed in (0, 1))
    assert zero.value != one.value
    assert zero.value == sliced_wasserstein(x, y, directions=10).value
    monkeypatch.setattr(module, "BLOCK", 100)
    small = sliced_wasserstein(x, y, directions=10)
    assert small.value == pytest.approx(zero.value, rel=1e-13)
    for a, b in zip(small.influences, zero.influences, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_identical_sets_are_no_distance_apart():
    x = RNG.normal(size=(50, 4))
    found = sliced_wasserstein(x, x[::-1])
    assert found.value == 0
    assert not any(influence.any() for influence in found.influences)


@pytest.mark.parametrize("measure", [sliced_wasserstein, mind])
@pytest.mark.parametrize(("n", "m"), [(300, 300), (300, 450)])
def test_influences_spread_as_a_bootstrap_does(measure, n, m):
    """Each set resampled alone, the value computed anew; at 300 samples a kink or two is within a quarter."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(n, 3)), rng.normal(size=(m, 3)) * 1.5 + [2, 0, 0]
    found = measure(x, y, directions=30)
    for side, influence in enumerate(found.influences):
        anew = []
        for _ in range(150):
            sets = [x, y]
            sets[side] = sets[side][rng.integers(len(sets[side]), size=len(sets[side]))]
            anew.append(measure(*sets, directions=30).value)
        assert influence.std() / len(influence) ** 0.5 == pytest.approx(np.std(anew), rel=0.25)


def test_influences_do_not_depend_on_which_end_is_called_low():
    """In sets of one size every level is a step of both, and either side of it would do: both count half."""
    x, y = RNG.normal(size=(20, 1)), RNG.normal(size=(20, 1)) + 1
    for one, other in zip(sliced_wasserstein(x, y).influences, sliced_wasserstein(-x, -y).influences, strict=True):
        np.testing.assert_allclose(one - one.mean(), other - other.mean(), atol=1e-12)


@pytest.mark.parametrize("order", [1.5, 2, 3])
def test_an_influence_is_a_derivative(order):
    """Weight is moved to a sample by repeating all others: value' = influence − its mean, here to second order."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(25, 2)) + 3
    found = sliced_wasserstein(x, y, directions=5, order=order)
    for side, (influence, z) in enumerate(zip(found.influences, (x, y), strict=True)):
        many = 200
        for row in range(0, 20, 7):
            sets = [x, y]
            sets[side] = np.concatenate([np.repeat(z, many, 0), z[row : row + 1]])
            share = 1 / (len(z) * many + 1)
            change = (sliced_wasserstein(*sets, directions=5, order=order).value - found.value) / share
            assert change == pytest.approx(influence[row] - influence.mean(), abs=2e-2)


def test_what_cannot_be_compared_is_refused():
    x = np.ones((3, 2))
    with pytest.raises(ValueError, match="2 and of 1 dimensions"):
        sliced_wasserstein(x, x[:, :1])
    with pytest.raises(ValueError, match="0 directions"):
        sliced_wasserstein(x, x, directions=0)
    with pytest.raises(ValueError, match=r"order 0\.5"):
        sliced_wasserstein(x, x, order=0.5)
    with pytest.raises(ValueError, match="not all finite"):
        mind(x, x * np.nan)
