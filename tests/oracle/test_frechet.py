"""The Fréchet distance against closed forms and scipy's matrix root."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from elegan.metrics.frechet import Moments, frechet_distance

RNG = np.random.default_rng(3)


def exactly(mean: np.ndarray, covariance: np.ndarray, count: int = 100) -> Moments:
    return Moments(count, np.asarray(mean, float), np.asarray(covariance, float) * (count - 1))


def test_moments_are_numpys():
    x = RNG.normal(size=(50, 4))
    moments = Moments.of(x)
    np.testing.assert_allclose(moments.mean, x.mean(0), atol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.cov(x.T), atol=1e-14)


def test_moments_of_portions_are_those_of_the_whole():
    x = RNG.normal(size=(100, 5)) * 3 + 1_000
    parts = Moments.of(x[:7]) + Moments.of(x[7:8]) + Moments.of(x[8:])
    assert parts.count == 100
    np.testing.assert_allclose(parts.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(parts.covariance, np.cov(x.T), rtol=1e-9)


def test_diagonal_gaussians_have_a_closed_form():
    a, b = exactly([0, 0, 1], np.diag([1.0, 4.0, 9.0])), exactly([3, 4, 1], np.diag([4.0, 1.0, 0.0]))
    assert frechet_distance(a, b) == pytest.approx(25 + 1 + 1 + 9, rel=1e-12)


def test_it_is_scipys_on_full_covariances():
    x, y = RNG.normal(size=(60, 8)) @ RNG.normal(size=(8, 8)), RNG.normal(size=(70, 8)) @ RNG.normal(size=(8, 8)) + 1
    one, two = np.cov(x.T), np.cov(y.T)
    root = sqrtm(one @ two).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(one + two - 2 * root)
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(Moments.of(y), Moments.of(x)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [5, 40, 400])
def test_identical_sets_are_no_distance_apart_even_where_covariances_are_singular(count):
    x = RNG.normal(size=(count, 40))
    x[:, 3] = 0  # a dead feature
    assert 0 <= frechet_distance(Moments.of(x), Moments.of(x)) < 1e-5


def test_a_shift_is_its_square():
    x = RNG.normal(size=(30, 6))
    assert frechet_distance(Moments.of(x), Moments.of(x + 2)) == pytest.approx(24, rel=1e-6)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="4 and of 5 dimensions"):
        frechet_distance(Moments.of(np.ones((3, 4))), Moments.of(np.ones((3, 5))))
    with pytest.raises(ValueError, match="two samples"):
        frechet_distance(Moments.of(np.ones((1, 4))), Moments.of(np.ones((3, 4))))
    with pytest.raises(ValueError, match="not all finite"):
        Moments.of(np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match="with N of 1"):
        Moments.of(np.ones((0, 2)))
