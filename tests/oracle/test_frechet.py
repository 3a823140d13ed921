"""The Fréchet distance against closed forms, scipy's matrix root and a true bootstrap."""

import functools
import itertools
import operator

import numpy as np
import pytest
from scipy.linalg import sqrtm

from elegan.metrics.frechet import Moments, frechet, frechet_distance

RNG = np.random.default_rng(3)


def exactly(mean: np.ndarray, covariance: np.ndarray, count: int = 100) -> Moments:
    return Moments.given(count, np.asarray(mean, float), np.asarray(covariance, float))


def textbook(one: np.ndarray, two: np.ndarray, apart: float = 0.0) -> float:
    """Of covariances of full rank."""
    return float(apart + np.trace(one) + np.trace(two) - 2 * np.trace(sqrtm(one @ two)).real)


def positive(d: int, rank: int | None = None, falls: float = 1.0) -> np.ndarray:
    """A random matrix (d, d) with `rank` eigenvalues above 0, from 1 down to e^-falls."""
    basis = np.linalg.qr(RNG.normal(size=(d, d)))[0][:, :rank]
    return basis * np.exp(-falls * np.linspace(0, 1, basis.shape[1])) @ basis.T


def carried(covariance: np.ndarray, carry: np.ndarray) -> tuple[np.ndarray, float]:
    """T C T for a symmetric T without negative eigenvalues, and its distance to C: Tr (C^½ T C T C^½)^½ is Tr T C."""
    other = carry @ covariance @ carry
    return other, float(np.trace(covariance) + np.trace(other) - 2 * np.trace(carry @ covariance))


def rows_of(covariance: np.ndarray, count: int) -> np.ndarray:
    """Rows (count, d) whose mean is 0 and whose covariance, of a rank below count, is the one given."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[values > 1e-12], vectors[:, values > 1e-12]
    centred = np.linalg.qr(np.c_[np.ones(count), RNG.normal(size=(count, len(values)))])[0][:, 1:]
    return centred * np.sqrt(values * (count - 1)) @ vectors.T


def test_moments_are_numpys():
    x = RNG.normal(size=(50, 4))
    moments = Moments.of(x)
    np.testing.assert_allclose(moments.mean, x.mean(0), atol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.cov(x.T), atol=1e-14)


@pytest.mark.parametrize("count", [3, 30, 10_000])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8"])
def test_moments_are_fp64_whatever_the_features_are(count, kind):
    x = (RNG.normal(size=(count, 6)) * 10 + 100).astype(kind)
    exact = x.astype(np.longdouble)
    mean = exact.mean(0)
    moments = Moments.of(x)
    assert moments.count == count
    assert moments.covariance.dtype == moments.mean.dtype == np.float64
    np.testing.assert_allclose(moments.mean, mean.astype(float), rtol=1e-13)
    covariance = ((exact - mean).T @ (exact - mean) / (count - 1)).astype(float)
    np.testing.assert_allclose(moments.covariance, covariance, rtol=1e-11, atol=1e-11 * covariance.max())


@pytest.mark.parametrize("d", [5, 40, 200])
def test_moments_of_portions_are_those_of_the_whole(d):
    """Whether rows are kept of both, of neither, or no longer of the sum."""
    x = RNG.normal(size=(100, d)) * 3 + 1_000
    parts = Moments.of(x[:7]) + Moments.of(x[7:8]) + Moments.of(x[8:20]) + Moments.of(x[20:])
    whole = Moments.of(x)
    assert parts.count == 100
    assert parts.spread.shape == whole.spread.shape == (min(100, d), d)
    if parts.few:
        np.testing.assert_allclose(parts.spread, x - x.mean(0), atol=1e-11)
    np.testing.assert_allclose(parts.mean, x.mean(0), rtol=1e-13)
    covariance = np.cov(x.T)
    np.testing.assert_allclose(parts.covariance, covariance, rtol=1e-12, atol=1e-12 * covariance.max())
    one_by_one = functools.reduce(operator.add, (Moments.of(row[None]) for row in x))
    np.testing.assert_allclose(one_by_one.covariance, covariance, rtol=1e-12, atol=1e-12 * covariance.max())


@pytest.mark.parametrize("d", [4, 60])
def test_what_is_left_out_is_gone(d):
    x = RNG.normal(size=(80, d)) * 2 + 50
    rest = Moments.of(x) - Moments.of(x[:7])
    assert rest.count == 73
    np.testing.assert_allclose(rest.mean, x[7:].mean(0), rtol=1e-13)
    np.testing.assert_allclose(rest.covariance, np.cov(x[7:].T), atol=1e-11)


def test_saved_moments_are_what_they_were():
    x = RNG.normal(size=(50, 4))
    moments = Moments.given(50, x.mean(0), np.cov(x.T))
    np.testing.assert_allclose(moments.scatter, Moments.of(x).scatter, rtol=1e-12, atol=1e-12)
    assert Moments.given(50, x.mean(0), np.cov(x.T) * 1e9 + [0, 0, 0, 1e-2]).count == 50  # lopsided by rounding
    both, whole = moments + Moments.of(x[:9]), np.r_[x, x[:9]]
    np.testing.assert_allclose(both.covariance, np.cov(whole.T), rtol=1e-12, atol=1e-12)


def test_diagonal_gaussians_have_a_closed_form():
    a, b = exactly([0, 0, 1], np.diag([1.0, 4.0, 9.0])), exactly([3, 4, 1], np.diag([4.0, 1.0, 0.0]))
    assert frechet_distance(a, b) == pytest.approx(25 + 1 + 1 + 9, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(25 + 1 + 1 + 9, rel=1e-12)


@pytest.mark.parametrize("d", [1, 7, 150, 300])
def test_commuting_gaussians_have_a_closed_form(d):
    basis = np.linalg.qr(RNG.normal(size=(d, d)))[0]
    one, two = RNG.uniform(0.1, 3, size=(2, d))
    a, b = exactly(np.zeros(d), basis * one**2 @ basis.T), exactly(np.ones(d), basis * two**2 @ basis.T)
    assert frechet_distance(a, b) == pytest.approx(d + ((one - two) ** 2).sum(), rel=1e-10)


@pytest.mark.parametrize("d", [2, 12, 150, 300])
def test_other_gaussians_have_one_where_a_map_carries_one_to_the_other(d):
    covariance = positive(d, falls=3)
    other, distance = carried(covariance, positive(d, falls=2))
    assert np.abs(covariance @ other - other @ covariance).max() > 1e-3
    a, b = exactly(np.zeros(d), covariance), exactly(np.full(d, 0.1), other, 70)
    assert frechet_distance(a, b) == pytest.approx(distance + d / 100, rel=1e-10)
    assert frechet_distance(b, a) == pytest.approx(distance + d / 100, rel=1e-10)


def test_covariances_that_are_all_but_singular_cost_no_digit_that_counts():
    covariance = positive(300, falls=28)  # condition 1e12
    other, distance = carried(covariance, positive(300, falls=1))
    a, b = exactly(np.zeros(300), covariance), exactly(np.zeros(300), other)
    assert frechet_distance(a, b) == pytest.approx(distance, rel=1e-6)


@pytest.mark.parametrize("known", [*itertools.product(["rows", "covariance"], repeat=2)], ids=" and ".join)
@pytest.mark.parametrize("ranks", [(11, 11), (11, 6), (4, 30)])
def test_singular_covariances_are_no_harder(known, ranks):
    """Of few samples, by their rows or by what was saved of them."""
    covariance = positive(30, ranks[0], falls=2)
    other, distance = carried(covariance, positive(30, ranks[1]))
    assert distance > 0.2
    a = Moments.of(rows_of(covariance, 12) + 1) if known[0] == "rows" else exactly(np.ones(30), covariance, 12)
    b = Moments.of(rows_of(other, 13)) if known[1] == "rows" else exactly(np.zeros(30), other, 13)
    within = 1e-10 if known == ("rows", "rows") else 1e-7
    assert frechet_distance(a, b) == pytest.approx(distance + 30, abs=within)
    assert frechet_distance(b, a) == pytest.approx(distance + 30, abs=within)


def test_few_rows_are_measured_against_a_full_covariance():
    covariance = positive(30, falls=2)
    other, distance = carried(covariance, positive(30, 8))
    few, full = Moments.of(rows_of(other, 10)), exactly(np.ones(30), covariance)
    assert frechet_distance(few, full) == pytest.approx(distance + 30, rel=1e-8)
    assert frechet_distance(full, few) == pytest.approx(distance + 30, rel=1e-8)


def test_singular_covariances_of_more_features_than_a_panel_are_no_harder():
    covariance = positive(300, 200, falls=2)
    other, distance = carried(covariance, positive(300, falls=2))
    a, b = exactly(np.zeros(300), covariance, 210), exactly(np.zeros(300), other, 220)
    few = Moments.of(rows_of(other, 220))
    assert frechet_distance(a, b) == pytest.approx(distance, rel=1e-6)
    assert frechet_distance(a, few) == pytest.approx(distance, rel=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_dead_and_dependent_features_change_nothing(constant):
    x, y = RNG.normal(size=(60, 8)) @ RNG.normal(size=(8, 8)), RNG.normal(size=(70, 8)) @ RNG.normal(size=(8, 8)) + 1
    expected = textbook(np.cov(x.T), np.cov(y.T), ((x.mean(0) - y.mean(0)) ** 2).sum())
    dead_x, dead_y = np.insert(x, [0, 3, 8], constant, axis=1), np.insert(y, [0, 3, 8], constant, axis=1)
    assert frechet_distance(Moments.of(dead_x), Moments.of(dead_y)) == pytest.approx(expected, rel=1e-7)
    turn = np.linalg.qr(RNG.normal(size=(11, 11)))[0]
    assert frechet_distance(Moments.of(dead_x @ turn), Moments.of(dead_y @ turn)) == pytest.approx(expected, rel=1e-6)
    dead_y[:, 4] = RNG.normal(size=70) * 2 + constant  # dead on one side only: all of its variance counts
    more = np.var(dead_y[:, 4], ddof=1) + (dead_y[:, 4].mean() - constant) ** 2
    assert frechet_distance(Moments.of(dead_x), Moments.of(dead_y)) == pytest.approx(expected + more, rel=1e-7)
    assert frechet_distance(Moments.of(dead_y), Moments.of(dead_x)) == pytest.approx(expected + more, rel=1e-7)


def test_it_is_scipys_on_full_covariances():
    x, y = RNG.normal(size=(60, 8)) @ RNG.normal(size=(8, 8)), RNG.normal(size=(70, 8)) @ RNG.normal(size=(8, 8)) + 1
    expected = textbook(np.cov(x.T), np.cov(y.T), ((x.mean(0) - y.mean(0)) ** 2).sum())
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(Moments.of(y), Moments.of(x)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("count", "within"), [(5, 1e-12), (39, 1e-12), (40, 1e-6), (41, 1e-6), (400, 1e-10)])
def test_identical_sets_are_no_distance_apart_even_where_covariances_are_singular(count, within):
    """A small shift is its square: so an error is seen on either side of 0."""
    x = RNG.normal(size=(count, 40))
    if count < 400:
        x[:, 3] = 0  # a dead feature
    assert 0 <= frechet_distance(Moments.of(x), Moments.of(x)) < within
    shift = 0.01
    assert frechet_distance(Moments.of(x), Moments.of(x + shift)) == pytest.approx(40 * shift**2, abs=within)


def test_five_hundred_rows_of_2048_features_are_none_apart():
    x = RNG.normal(size=(500, 2048)) * np.exp(-5 * np.arange(2048) / 2048)
    assert frechet_distance(Moments.of(x), Moments.of(x)) <= 1e-9
    assert frechet_distance(Moments.of(x), Moments.of(x + 1e-4)) == pytest.approx(2048e-8, abs=1e-9)
    portions = Moments.of(x[:123]) + Moments.of(x[123:])
    assert frechet_distance(Moments.of(x[::-1]), portions) <= 1e-9


def test_sets_without_any_spread_are_as_far_as_their_points():
    a, b = Moments.of(np.full((50, 3), 2.0)), Moments.of(np.full((9, 3), 4.0))
    assert frechet_distance(a, b) == pytest.approx(12, rel=1e-14)
    assert frechet(np.full((50, 3), 2.0), b).value == pytest.approx(12, rel=1e-14)


@pytest.mark.parametrize(("count", "d", "others"), [(40, 5, 60), (7, 12, 60), (7, 12, 9), (60, 12, 9)])
def test_an_influence_is_what_a_little_more_of_a_sample_changes(count, d, others):
    """Against the numerical derivative by each sample's weight, of the formula with roots by hand."""
    x, y = RNG.normal(size=(count, d)), RNG.normal(size=(others, d)) @ RNG.normal(size=(d, d)) + 0.5
    mean_y, root_y = y.mean(0), (y - y.mean(0)) / np.sqrt(others - 1)

    def weighted(weights: np.ndarray) -> float:
        mean = weights @ x
        root = (x - mean) * np.sqrt(weights * count / (count - 1))[:, None]
        shared = np.linalg.svd(root @ root_y.T, compute_uv=False).sum()
        return float(((mean - mean_y) ** 2).sum() + (root**2).sum() + (root_y**2).sum() - 2 * shared)

    uniform, step = np.full(count, 1 / count), 1e-6
    ways = (np.eye(count) - uniform) * step
    slopes = [(weighted(uniform + way) - weighted(uniform - way)) / (2 * step) for way in ways]
    estimate = frechet(x, Moments.of(y))
    assert estimate.value == pytest.approx(weighted(uniform), rel=1e-8)
    assert len(estimate.influences) == 1  # the reference is held fixed
    np.testing.assert_allclose(estimate.influences[0], slopes, rtol=1e-5, atol=1e-5)
    assert abs(estimate.influences[0].sum()) < 1e-8


def test_the_interval_is_that_of_a_true_bootstrap():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2_000, 16)) @ positive(16, falls=2)
    reference = Moments.of(rng.normal(size=(2_000, 16)) @ positive(16, falls=1) + 0.1)
    mean, root = reference.mean, (sqrtm(reference.covariance)).real
    values = []
    for _ in range(400):
        drawn = x[rng.integers(2_000, size=2_000)]
        covariance = np.cov(drawn.T)
        shared = np.sqrt(np.linalg.eigvalsh(root @ covariance @ root)).sum()
        apart = ((drawn.mean(0) - mean) ** 2).sum()
        values.append(apart + np.trace(covariance) + np.trace(reference.covariance) - 2 * shared)
    estimate = frechet(x, reference)
    deviation = estimate.influences[0].std() / np.sqrt(2_000)
    assert deviation == pytest.approx(np.std(values), rel=0.15)
    low, high = estimate.interval()
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_rows_beyond_a_block_weigh_as_they_should():
    x = np.tile(RNG.normal(size=(1_000, 3)), (9, 1))
    weights = frechet(x, exactly(np.ones(3), np.eye(3))).influences[0].reshape(9, -1)
    assert weights.std() > 0.1
    np.testing.assert_allclose(weights, np.tile(weights[0], (9, 1)), rtol=1e-9, atol=1e-12)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="4 and of 5 dimensions"):
        frechet_distance(Moments.of(np.ones((3, 4))), Moments.of(np.ones((3, 5))))
    with pytest.raises(ValueError, match="4 and of 5 dimensions"):
        Moments.of(np.ones((3, 4))) + Moments.of(np.ones((3, 5)))
    for one, two in ((1, 3), (3, 1)):
        with pytest.raises(ValueError, match="two samples"):
            frechet_distance(Moments.of(np.ones((one, 4))), Moments.of(np.ones((two, 4))))
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not all finite"):
            Moments.of(np.array([[1.0, wrong]]))
    for shape in ((0, 2), (2, 0), (3,), (2, 2, 2)):
        with pytest.raises(ValueError, match="with N and d of 1"):
            Moments.of(np.ones(shape))


@pytest.mark.parametrize(
    ("count", "mean", "covariance", "says"),
    [
        (1, [0, 0], np.eye(2), "two samples"),
        (9, [0, 0], np.eye(3), "no covariance of"),
        (9, [[0, 0]], np.eye(2), "no covariance of"),
        (9, [0, np.nan], np.eye(2), "not all finite"),
        (9, [0, 0], np.full((2, 2), np.inf), "not all finite"),
        (9, [0, 0], [[1, 0.5], [0, 1]], "symmetric"),
        (9, [0, 0], [[1, 0], [0, -1]], "diagonal of 0 or more"),
    ],
)
def test_saved_moments_that_cannot_be_are_refused(count, mean, covariance, says):
    with pytest.raises(ValueError, match=says):
        Moments.given(count, np.array(mean), np.array(covariance))
