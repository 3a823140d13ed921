"""The baseline against scikit-learn's components and mixtures, scipy's densities, and mixtures that are known."""

import warnings

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from elegan.data.sources import open_data
from elegan.metrics import baseline
from elegan.metrics.baseline import Baseline, Mixture, fit

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return open_data("digits").arrays["real"][:3_000]


@pytest.fixture(scope="module")
def fitted(digits) -> Baseline:
    return fit(digits, components=5, dimensions=20)


def blobs(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of three Gaussians far apart in the plane, weights .5, .3, .2."""
    means = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    spreads = np.array([[[1.0, 0.6], [0.6, 1.0]], [[0.2, 0.0], [0.0, 2.0]], [[0.5, -0.3], [-0.3, 0.5]]])
    draw = np.random.default_rng(0)
    which = draw.choice(3, n, p=[0.5, 0.3, 0.2])
    points = np.stack([draw.multivariate_normal(means[k], spreads[k]) for k in which])
    return points, means, spreads


@pytest.mark.parametrize("exact", [True, False])
def test_components_are_scikit_learns(digits, monkeypatch, exact):
    if not exact:
        monkeypatch.setattr(baseline, "EXACT", 100)
    found = fit(digits, components=1, dimensions=10)
    flat = digits.reshape(len(digits), -1).astype(float)
    known = PCA(10, svd_solver="full").fit(flat)
    np.testing.assert_allclose(found.mean, known.mean_, rtol=1e-12)
    assert found.axes.shape == (10, 784)
    alike = np.abs(np.sum(found.axes * known.components_, axis=1))
    np.testing.assert_allclose(alike, 1, atol=1e-9 if exact else 2e-3)
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(10), atol=1e-10)
    (spread,) = found.mixture.covariances  # of one Gaussian, that of the data itself
    variance = known.explained_variance_ * (1 - 1 / len(flat))
    np.testing.assert_allclose(np.diag(spread), variance, rtol=2e-5 if exact else 3e-4)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("rest", "kept"), [(0.25, 3), (0.5, 15)])
def test_as_many_components_as_hold_most_of_the_variance(monkeypatch, exact, rest, kept):
    """Three that stand out and 77 that do not, which together are 4 % of the variance, or 14 %."""
    if not exact:
        monkeypatch.setattr(baseline, "EXACT", 1)
    turn, _ = np.linalg.qr(RNG.normal(size=(80, 80)))
    rows = RNG.normal(size=(3_000, 80)) * np.array([9.0, 5.0, 4.0, *[rest] * 77]) @ turn
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    assert kept == min(15, int((values.cumsum() / values.sum() < 0.95).sum()) + 1)
    assert len(fit(rows, components=2, dimensions=15).axes) == kept
    assert len(fit(rows, components=2, dimensions=2).axes) == 2


def test_portions_are_the_whole(digits, monkeypatch):
    whole = fit(digits[:500], components=3, dimensions=8)
    monkeypatch.setattr(baseline, "BLOCK", 784 * 7)
    parts = fit(digits[:500], components=3, dimensions=8)
    np.testing.assert_allclose(np.abs(np.sum(parts.axes * whole.axes, axis=1)), 1, rtol=1e-9)
    np.testing.assert_allclose(parts.log_likelihood(digits[:50]), whole.log_likelihood(digits[:50]), rtol=1e-6)
    monkeypatch.undo()
    a = whole.sample(50, seed=3)
    monkeypatch.setattr(baseline, "BLOCK", 784 * 7)
    assert (whole.sample(50, seed=3) == a).all()


def test_em_is_scikit_learns_from_the_same_start(digits):
    x = PCA(8, random_state=0).fit_transform(digits.reshape(len(digits), -1).astype(float))
    begun = baseline.start(x, 4, np.random.default_rng(0))
    found = baseline.expectation_maximisation(x, begun)
    known = GaussianMixture(
        4,
        weights_init=begun.weights,
        means_init=begun.means,
        precisions_init=np.linalg.inv(begun.covariances),
        reg_covar=baseline.FLOOR * x.var(0).mean(),
        tol=baseline.GAIN * 8,
        max_iter=baseline.STEPS,
        random_state=0,
    ).fit(x)
    np.testing.assert_allclose(found.weights, known.weights_, rtol=1e-6)
    np.testing.assert_allclose(found.means, known.means_, rtol=1e-5, atol=1e-5 * np.abs(x).max())
    np.testing.assert_allclose(found.covariances, known.covariances_, rtol=1e-5, atol=1e-5 * x.var())
    mine = np.logaddexp.reduce(found.log_densities(x), axis=1)
    np.testing.assert_allclose(mine, known.score_samples(x), rtol=1e-8)


def test_it_is_as_likely_as_what_scikit_learn_finds_from_a_start_of_its_own(digits):
    found = fit(digits, components=6, dimensions=12)
    x = (digits.reshape(len(digits), -1) - found.mean) @ found.axes.T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it has not converged
        best = max(GaussianMixture(6, random_state=s).fit(x).score(x) for s in range(2))
    assert found.log_likelihood(digits).mean() > best - 0.01 * abs(best)


def test_a_known_mixture_is_recovered():
    points, means, spreads = blobs(6_000)
    found = fit(points, components=3)
    mixture = found.mixture
    seen = mixture.means @ found.axes + found.mean  # in the plane
    turned = np.einsum("ia,kij,jb->kab", found.axes, mixture.covariances, found.axes)
    order = [int(np.linalg.norm(seen - mean, axis=1).argmin()) for mean in means]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(seen[order], means, atol=0.12)
    np.testing.assert_allclose(turned[order], spreads, atol=0.15)
    np.testing.assert_allclose(mixture.weights[order], [0.5, 0.3, 0.2], atol=0.02)


def test_every_step_of_em_gains():
    points, _, _ = blobs(500)
    mixture, before = baseline.start(points, 5, np.random.default_rng(1)), -np.inf
    for _ in range(10):
        densities = mixture.log_densities(points)
        total = np.logaddexp.reduce(densities, axis=1)
        assert total.mean() >= before - 1e-6
        before = total.mean()
        mixture = baseline.maximisation(points, np.exp(densities - total[:, None]))


def test_densities_are_scipys():
    mixture = Mixture(
        np.array([0.25, 0.75]), RNG.normal(size=(2, 3)), np.stack([np.diag([1.0, 2.0, 0.5]), np.eye(3) + 0.4])
    )
    x = RNG.normal(size=(20, 3))
    known = [np.log(w) + multivariate_normal(m, c).logpdf(x) for w, m, c in zip(*mixture, strict=True)]
    np.testing.assert_allclose(mixture.log_densities(x), np.transpose(known), rtol=1e-12)


def test_the_likelihood_of_rows_is_that_of_their_coordinates(fitted, digits):
    x = (digits[:40].reshape(40, -1).astype(float) - fitted.mean) @ fitted.axes.T
    parts = zip(*fitted.mixture, strict=True)
    known = np.logaddexp.reduce([np.log(w) + multivariate_normal(m, c).logpdf(x) for w, m, c in parts], axis=0)
    np.testing.assert_allclose(fitted.log_likelihood(digits[:40]), known, rtol=1e-10)
    assert fitted.log_likelihood(digits[:200]).mean() > fitted.log_likelihood(255 - digits[:200]).mean() + 10


def test_samples_are_of_the_source_s_form_and_moments(fitted, digits):
    drawn = fitted.sample(4_000)
    assert (drawn.shape, drawn.dtype) == ((4_000, 1, 28, 28), np.uint8)
    near = np.abs(drawn.mean(0) - digits.mean(0))
    assert near.max() < 14, "only clipping moves the mean"
    points, _, _ = blobs(4_000)
    floats = fit(points.astype(np.float32), components=3)
    again = floats.sample(20_000)
    assert again.dtype == np.float32
    np.testing.assert_allclose(again.mean(0), points.mean(0), atol=0.12)
    np.testing.assert_allclose(np.cov(again.T), np.cov(points.T), rtol=0.05)
    assert floats.log_likelihood(again[:2_000]).mean() == pytest.approx(floats.log_likelihood(points).mean(), abs=0.1)


def test_pixels_are_rounded_and_clipped():
    still = Mixture(np.ones(1), np.zeros((1, 1)), np.full((1, 1, 1), 1e-12))
    for mean, pixel in ((9.75, 10), (9.25, 9), (300.0, 255), (-3.0, 0)):
        made = Baseline((1, 1, 1), np.dtype(np.uint8), np.array([mean]), np.ones((1, 1)), still)
        assert (made.sample(5) == pixel).all(), mean


def test_the_start_takes_far_points_for_centres():
    """Each centre is drawn by the squared distance from those before: two specks far off are not overlooked."""
    x = np.concatenate([RNG.normal(size=(1_000, 2)), RNG.normal(size=(5, 2)) + 1e4, RNG.normal(size=(5, 2)) - 1e4])
    for seed in range(10):
        begun = baseline.start(x, 3, np.random.default_rng(seed))
        np.testing.assert_allclose(np.sort(begun.weights), [5 / 1_010, 5 / 1_010, 1_000 / 1_010], rtol=1e-9)
        assert np.linalg.norm(begun.means, axis=1).max() == pytest.approx(1e4 * np.sqrt(2), rel=1e-3)


def test_seeds():
    points, _, _ = blobs(300)
    one, same, other = fit(points, seed=1), fit(points, seed=1), fit(points, seed=2)
    assert (one.mixture.means == same.mixture.means).all()
    assert not np.array_equal(one.mixture.means, other.mixture.means)
    assert (one.sample(10, seed=4) == same.sample(10, seed=4)).all()
    assert not np.array_equal(one.sample(10, seed=4), one.sample(10, seed=5))


def test_em_sees_some_of_many_rows_and_components_see_all(monkeypatch):
    points, _, _ = blobs(4_000)
    monkeypatch.setattr(baseline, "SAMPLED", 500)
    seen, start = [], baseline.start
    monkeypatch.setattr(baseline, "start", lambda x, *rest: seen.append(len(x)) or start(x, *rest))
    found = fit(points, components=3)
    np.testing.assert_allclose(found.mean, points.mean(0), rtol=1e-12)
    assert seen == [500]


def test_more_gaussians_than_places_do_no_harm():
    rows = np.repeat(np.array([[0.0, 0.0], [4.0, 2.0]]), 20, axis=0)
    found = fit(rows, components=6)
    drawn = found.sample(200)
    away = np.minimum(np.linalg.norm(drawn - [0, 0], axis=1), np.linalg.norm(drawn - [4, 2], axis=1))
    assert np.isfinite(drawn).all()
    assert away.max() < 0.1


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (np.ones((20, 3)), {}, "all the same"),
        (np.ones((20, 3), np.int64), {}, "uint8 or float"),
        (np.ones(20), {}, "uint8 or float"),
        (np.eye(9), {}, "need 10 rows"),
        (np.ones((1, 3)), {"components": 1}, "need 2 rows"),
        (np.full((20, 3), np.nan), {}, "not all finite"),
        (np.eye(20), {"components": 0}, "1 or more"),
        (np.eye(20), {"dimensions": 0}, "1 or more"),
    ],
)
def test_what_cannot_be_fitted_is_refused(rows, options, says):
    with pytest.raises(ValueError, match=says):
        fit(rows, **options)


def test_rows_of_another_shape_are_refused(fitted):
    with pytest.raises(ValueError, match=r"shape \(1, 28, 28\), not \(3, 28, 28\)"):
        fitted.log_likelihood(np.zeros((4, 3, 28, 28), np.uint8))
