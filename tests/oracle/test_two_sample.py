"""The two-sample test: no surer than it may be, as sharp as Bayes allows, with scikit-learn's classifiers inside."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from elegan.metrics import binomial, logistic, two_sample
from elegan.metrics.two_sample import two_sample_test

RNG = np.random.default_rng(7)

# ---- the regression inside


@pytest.mark.parametrize("penalty", [0.01, 1.0, 30.0])
def test_the_regression_is_scikit_learns(penalty):
    x = RNG.normal(size=(200, 6)) * [1, 5, 0.1, 1, 1, 100] + [0, 3, 0, -1, 0, 1_000]
    yes = RNG.random(200) < 1 / (1 + np.exp(-(x[:, 0] - x[:, 3] + 0.5)))
    found = logistic.fit(x, yes, penalty=penalty)
    scaler = StandardScaler().fit(x)
    known = LogisticRegression(C=1 / penalty, tol=1e-12, max_iter=10_000).fit(scaler.transform(x), yes)
    np.testing.assert_allclose(found.weights, known.coef_[0], atol=1e-6)
    assert found.bias == pytest.approx(known.intercept_[0], abs=1e-6)
    fresh = RNG.normal(size=(50, 6)) * x.std(0) + x.mean(0)
    np.testing.assert_allclose(found.scores(fresh), known.decision_function(scaler.transform(fresh)), atol=1e-5)


def test_the_regression_holds_where_sides_are_parted_or_features_constant():
    x = np.column_stack([np.r_[np.full(30, -1e6), np.full(30, 1e6)], np.full(60, 1e5)])
    yes = np.arange(60) >= 30
    found = logistic.fit(x, yes)
    known = LogisticRegression(C=1.0, tol=1e-12).fit((x[:, :1]) / 1e6, yes)
    assert found.weights[0] == pytest.approx(known.coef_[0, 0], rel=1e-6)
    assert found.weights[1] == 0
    tiny = logistic.fit(x, yes, penalty=1e-6)
    assert ((tiny.scores(x) > 0) == yes).all()
    assert np.isfinite(tiny.scores(x)).all()


def test_the_regression_does_not_overshoot():
    """Nearly parted sides and a weak penalty: here plain Newton runs off to weights of 31,469 and -1,857."""
    draw = np.random.default_rng(131)
    n, d = int(draw.integers(6, 40)), int(draw.integers(1, 4))
    x = draw.normal(size=(n, d)) ** 3
    yes = x[:, 0] + 0.1 * draw.normal(size=n) > np.quantile(x[:, 0], draw.uniform(0.1, 0.9))
    known = LogisticRegression(C=1e4, tol=1e-12, solver="newton-cholesky", max_iter=1_000)
    known.fit(StandardScaler().fit_transform(x), yes)
    np.testing.assert_allclose(logistic.fit(x, yes, penalty=1e-4).weights, known.coef_[0], rtol=1e-4)


def test_the_regression_refuses_what_has_no_sides():
    with pytest.raises(ValueError, match="both sides"):
        logistic.fit(np.ones((4, 2)), np.ones(4, bool))
    with pytest.raises(ValueError, match="one truth each"):
        logistic.fit(np.ones((4, 2)), np.ones(3, bool))


# ---- chances


@pytest.mark.parametrize(("hits", "trials", "chance"), [(0, 5, 0.5), (5, 5, 0.5), (60, 100, 0.5), (3, 17, 0.1)])
def test_tails_and_intervals_are_scipys(hits, trials, chance):
    known = binomtest(hits, trials, chance, alternative="greater")
    assert binomial.tail(hits, trials, chance) == pytest.approx(known.pvalue, rel=1e-9)
    for level in (0.9, 0.95):
        low, high = binomtest(hits, trials).proportion_ci(level, method="wilson")
        assert binomial.wilson(hits, trials, level=level) == pytest.approx((low, high), abs=1e-12)


def test_tails_of_many_trials():
    assert binomial.tail(10_200, 20_000) == pytest.approx(
        binomtest(10_200, 20_000, alternative="greater").pvalue, rel=1e-7
    )


def test_chances_that_cannot_be_are_refused():
    for hits, trials in ((-1, 4), (5, 4)):
        with pytest.raises(ValueError, match="cannot be"):
            binomial.tail(hits, trials)
        with pytest.raises(ValueError, match="cannot be"):
            binomial.wilson(hits, trials)
    with pytest.raises(ValueError, match="nothing"):
        binomial.wilson(0, 0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        binomial.tail(1, 2, 1.0)


# ---- the test


@pytest.mark.parametrize("classifier", ["logistic", "neighbours"])
def test_of_one_distribution_p_values_are_about_uniform(classifier):
    found = []
    for seed in range(40):
        draw = np.random.default_rng(seed)
        found.append(two_sample_test(draw.normal(size=(200, 5)), draw.normal(size=(300, 5)), classifier=classifier))
    p = np.array([test.p_value for test in found])
    assert (p < 0.05).sum() < 5
    assert 8 <= (p < 0.5).sum() <= 28
    accuracy = np.array([test.accuracy.value for test in found])
    assert accuracy.mean() == pytest.approx(0.5, abs=0.012)
    assert accuracy.std() == pytest.approx(0.5 / np.sqrt(200), rel=0.35), "held out, each an answer of its own"


@pytest.mark.parametrize("apart", [0.5, 1.0, 2.0])
def test_shifted_gaussians_are_told_apart_as_well_as_can_be(apart):
    """Bayes' rule is right with probability Φ(δ/2)."""
    x, y = RNG.normal(size=(20_000, 4)), RNG.normal(size=(20_000, 4)) + apart * np.eye(4)[0]
    found = two_sample_test(x, y)
    assert found.accuracy.value == pytest.approx(norm.cdf(apart / 2), abs=0.01)
    assert found.p_value < 1e-12
    low, high = found.accuracy.interval()
    p, n = found.accuracy.value, found.held_out
    assert n == 20_000
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / n), rel=0.1)
    assert low < norm.cdf(apart / 2) < high


def test_neighbours_see_what_no_hyperplane_parts():
    x, y = RNG.normal(size=(2_000, 2)), 0.3 * RNG.normal(size=(2_000, 2))
    assert abs(two_sample_test(x, y).accuracy.value - 0.5) < 0.06
    assert two_sample_test(x, y, classifier="neighbours").accuracy.value > 0.75


def test_neighbours_are_scikit_learns(monkeypatch):
    train, test = RNG.normal(size=(121, 3)) + 1_000, RNG.normal(size=(80, 3)) + 1_000
    truth = train[:, 0] + 0.3 * RNG.normal(size=121) > 1_000
    known = KNeighborsClassifier(11).fit(train, truth).predict(test)
    for block in (two_sample.BLOCK, 121 * 7):
        monkeypatch.setattr(two_sample, "BLOCK", block)
        assert (two_sample._neighbours(train, truth, test, np.random.default_rng(0)) == known).all()


def test_nothing_that_is_learnt_from_is_asked_about():
    """Every sample is unlike every other, and in its own place: known by heart or not at all."""
    x, y = np.eye(400)[:200], np.eye(400)[200:]
    for seed in range(3):
        assert two_sample_test(x, y, classifier="neighbours", seed=seed).accuracy.value < 0.65


def test_the_split_is_of_the_seed_and_of_as_many_of_each():
    x, y = RNG.normal(size=(90, 3)), RNG.normal(size=(45, 3)) + 0.5
    one, same, other = (two_sample_test(x, y, seed=seed) for seed in (0, 0, 1))
    assert one.accuracy.value == same.accuracy.value
    assert (one.accuracy.influences[0] != other.accuracy.influences[0]).any()
    assert one.held_out == len(one.accuracy.influences[0]) == 2 * 23
    assert one.accuracy.value == one.accuracy.influences[0].mean()
    assert one.p_value == pytest.approx(
        binomtest(int(one.accuracy.influences[0].sum()), 46, alternative="greater").pvalue
    )


def test_sorted_sets_are_shuffled_first():
    """Whose first half is unlike its second; were the split that of the order, nothing learnt would hold."""
    x = np.sort(RNG.normal(size=(400, 1)), axis=0)
    y = x[::-1] + 4
    assert two_sample_test(x, y).accuracy.value > 0.93


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"\(N, d\) and \(M, d\)"):
        two_sample_test(np.ones((9, 2)), np.ones((9, 3)))
    with pytest.raises(ValueError, match="4 samples of each set or more, not 3"):
        two_sample_test(np.ones((9, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="not all finite"):
        two_sample_test(np.ones((9, 2)), np.full((9, 2), np.inf))
