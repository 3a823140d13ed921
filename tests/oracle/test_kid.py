"""The kernel distance against its definition, scikit-learn's kernel and the closed form for Gaussians."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel

from elegan.metrics import kid as module
from elegan.metrics.kid import kid, kid_subsets

D = 8
RNG = np.random.default_rng(5)
MEAN_X, MEAN_Y = RNG.normal(size=(2, D)) * 0.4
ROOT_X, ROOT_Y = RNG.normal(size=(2, D, D)) / D**0.5


def drawn(rng: np.random.Generator, count: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(count, D)) @ ROOT_X.T + MEAN_X
    return x, rng.normal(size=(other, D)) @ ROOT_Y.T + MEAN_Y


def expected_kernel(mean: np.ndarray, root: np.ndarray, other_mean: np.ndarray, other_root: np.ndarray) -> float:
    """E (x·y/d + 1)³ of independent Gaussians: a polynomial of E (x·y), E (x·y)², E (x·y)³."""
    one, two = root @ root.T, other_root @ other_root.T
    product, trace = mean @ other_mean, np.trace(one @ two)
    spread_x, spread_y = other_mean @ one @ other_mean, mean @ two @ mean
    second = product**2 + spread_x + spread_y + trace
    third = product**3 + 3 * product * (spread_x + spread_y + trace) + 6 * mean @ two @ one @ other_mean
    return 1 + 3 * product / D + 3 * second / D**2 + third / D**3


TRUTH = (
    expected_kernel(MEAN_X, ROOT_X, MEAN_X, ROOT_X)
    + expected_kernel(MEAN_Y, ROOT_Y, MEAN_Y, ROOT_Y)
    - 2 * expected_kernel(MEAN_X, ROOT_X, MEAN_Y, ROOT_Y)
)


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """With scikit-learn's kernel, in fp64."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    own_x, own_y, cross = (
        polynomial_kernel(a, b, degree=3, gamma=1 / x.shape[1], coef0=1) for a, b in ((x, x), (y, y), (x, y))
    )
    m, n = len(x), len(y)
    off_x, off_y = own_x.sum() - own_x.trace(), own_y.sum() - own_y.trace()
    return off_x / (m * (m - 1)) + off_y / (n * (n - 1)) - 2 * cross.mean()


@pytest.mark.parametrize(("count", "other"), [(2, 2), (2, 5), (60, 43), (43, 60)])
@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("block", [7, 2_048])
def test_it_is_the_definition_whatever_the_block(count, other, kind, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    x, y = (side.astype(kind) for side in drawn(RNG, count, other))
    assert kid(x, y).value == pytest.approx(by_hand(x, y), rel=1e-11)
    assert kid(y, x).value == pytest.approx(by_hand(x, y), rel=1e-11)
    x, y = x + 30, y + 30  # kernels of 1e9
    assert kid(x, y).value == pytest.approx(by_hand(x, y), rel=1e-6)


def test_large_features_keep_their_digits():
    """Kernels of 1e9 whose differences count: in single precision nothing would be left."""
    x, y = (np.round(side * 8) / 8 + 1_024 for side in drawn(RNG, 50, 50))
    same = by_hand(x, y)
    assert kid(x.astype(np.float32), y.astype(np.float32)).value == pytest.approx(same, rel=1e-6)


def test_an_influence_is_what_one_more_of_a_sample_changes():
    """The slope by a sample's weight of E k(x, x') + E k(y, y') − 2 E k(x, y), pairs of a sample with itself apart."""
    x, y = drawn(RNG, 40, 30)
    estimate = kid(x, y)
    for side, own, other in ((0, x, y), (1, y, x)):
        for k in (0, 7, 29):
            within = polynomial_kernel(own[k : k + 1], np.delete(own, k, 0), degree=3, gamma=1 / D).mean()
            across = polynomial_kernel(own[k : k + 1], other, degree=3, gamma=1 / D).mean()
            assert estimate.influences[side][k] == pytest.approx(2 * (within - across), rel=1e-9)


def test_its_mean_is_the_closed_form_and_its_interval_holds_it():
    values, held = [], 0
    for seed in range(20):
        estimate = kid(*drawn(np.random.default_rng(seed), 500, 700))
        low, high = estimate.interval()
        values.append(estimate.value)
        held += low <= TRUTH <= high
    deviation = np.sqrt(sum(influence.var() / len(influence) for influence in estimate.influences))
    assert held >= 18
    assert np.mean(values) == pytest.approx(TRUTH, abs=3 * deviation / np.sqrt(20))
    assert np.std(values) == pytest.approx(deviation, rel=0.4)


def test_small_sets_are_not_biased():
    """With three samples a side the diagonal would be a third of all pairs."""
    values = [kid(*drawn(np.random.default_rng(seed), 3, 3)).value for seed in range(4_000)]
    error = np.std(values) / np.sqrt(len(values))
    assert np.mean(values) == pytest.approx(TRUTH, abs=3 * error)
    assert error < TRUTH / 10


def test_equal_distributions_come_out_around_0_and_constant_sets_at_it():
    values = []
    for seed in range(30):
        sides = np.random.default_rng(seed).normal(size=(2, 200, D))
        values.append(kid(*sides).value)
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(30)
    x = np.random.default_rng(0).normal(size=(100, D))
    assert -0.5 < kid(x, x).value < 0  # not independent
    constant = np.full((10, D), 3.0)
    assert kid(constant, constant).value == pytest.approx(0, abs=1e-9)
    assert kid_subsets(constant, constant, subsets=3, size=5) == pytest.approx((0, 0), abs=1e-9)


def test_subsets_of_all_are_the_whole():
    x, y = drawn(RNG, 50, 50)
    mean, deviation = kid_subsets(x, y, subsets=4, size=50)
    assert mean == pytest.approx(kid(x, y).value, rel=1e-11)
    assert deviation == pytest.approx(0, abs=1e-12)
    assert kid_subsets(x, y, subsets=1, size=20)[1] == 0  # ddof 0


def test_subsets_are_drawn_by_the_seed_and_average_to_the_whole():
    x, y = drawn(RNG, 400, 300)
    mean, deviation = kid_subsets(x, y, size=100, seed=3)
    assert (mean, deviation) == kid_subsets(x, y, size=100, seed=3)
    assert (mean, deviation) != kid_subsets(x, y, size=100, seed=4)
    whole = kid(x, y).value
    assert mean == pytest.approx(whole, abs=3 * deviation / np.sqrt(100))
    assert mean != pytest.approx(whole, rel=1e-6)
    fresh = [kid(*drawn(np.random.default_rng(seed), 100, 100)).value for seed in range(100)]
    assert deviation == pytest.approx(np.std(fresh), rel=0.4)


def test_what_cannot_be_compared_is_refused():
    x = np.ones((3, 4))
    for y in (np.ones((3, 5)), np.ones(4), np.ones((0, 4)), np.ones((3, 4, 1))):
        with pytest.raises(ValueError, match="features are"):
            kid(x, y)
        with pytest.raises(ValueError, match="features are"):
            kid_subsets(y, x)
    with pytest.raises(ValueError, match="two samples or more of each side"):
        kid(x, x[:1])
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not all finite"):
            kid(np.full((3, 4), wrong), x)
        with pytest.raises(ValueError, match="not all finite"):
            kid(x, np.full((3, 4), wrong))
    for subsets, size in ((100, 1_000), (100, 4), (100, 1), (0, 2)):
        with pytest.raises(ValueError, match=f"{subsets} subsets of {size} cannot be drawn from 3 and 3"):
            kid_subsets(x, x, subsets=subsets, size=size)
