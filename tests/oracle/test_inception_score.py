"""The inception score against closed forms, scipy's divergence and a true bootstrap."""

import numpy as np
import pytest
from scipy.special import rel_entr

from elegan.metrics import inception_score as module
from elegan.metrics.inception_score import inception_score, whole_inception_score

RNG = np.random.default_rng(6)


def probabilities(count: int, classes: int = 10) -> np.ndarray:
    p = RNG.dirichlet(np.full(classes, 0.2), size=count)
    p[::7] = np.eye(classes)[np.arange(len(p[::7])) % classes]  # sure ones, with zeros
    return p


def by_hand(p: np.ndarray) -> float:
    return float(np.exp(rel_entr(p, p.mean(0)).sum(1).mean()))


@pytest.mark.parametrize("block", [13, 4_096])
def test_the_whole_is_the_definition_whatever_the_block(block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    p = probabilities(300)
    assert whole_inception_score(p).value == pytest.approx(by_hand(p), rel=1e-13)
    assert inception_score(p, splits=1) == (pytest.approx(by_hand(p), rel=1e-13), 0)  # ddof 0


def test_single_precision_is_read_and_not_reckoned_in():
    p = RNG.dirichlet(np.full(1_000, 0.05), size=200).astype(np.float32)
    expected = by_hand(p.astype(np.float64))
    assert whole_inception_score(p).value == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_sure_of_each_class_is_the_number_of_classes_and_unsure_is_1(classes):
    sure = np.tile(np.eye(classes), (20, 1))
    assert whole_inception_score(sure).value == pytest.approx(classes, rel=1e-13)
    assert whole_inception_score(np.full((20, classes), 1 / classes)).value == pytest.approx(1, rel=1e-13)
    assert whole_inception_score(sure[:, :1] * 0 + np.eye(classes)[:1]).value == pytest.approx(1, rel=1e-13)


def test_classes_in_order_are_shuffled_before_they_are_split():
    """Unshuffled, each split would hold one class and score 1; and fewer are spread less evenly than all."""
    p = np.repeat(np.eye(10), 500, axis=0)
    mean, deviation = inception_score(p)
    assert 9.8 < mean < 10 - 1e-4
    assert 0 < deviation < 0.1


def test_splits_are_of_the_seed_and_cover_every_row():
    p = probabilities(1_003)
    assert inception_score(p, seed=1) == inception_score(p, seed=1)
    assert inception_score(p, seed=1) != inception_score(p, seed=2)
    one_each, spread = inception_score(p, splits=1_003)
    assert one_each == pytest.approx(1, rel=1e-13)
    assert spread == pytest.approx(0, abs=1e-13)
    odd = np.r_[np.tile([[1.0, 0.0]], (9, 1)), [[0.0, 1.0]]]
    values = {inception_score(odd, splits=2, seed=seed) for seed in range(8)}
    other = by_hand(odd[5:])  # the odd one is in one of two halves, whichever it is
    for value in values:
        assert value == pytest.approx(((1 + other) / 2, (other - 1) / 2), rel=1e-12)
    sizes = inception_score(np.eye(11), splits=2)  # each row a class of its own, so a split scores its size: 6 and 5
    assert sizes == pytest.approx((5.5, 0.5), rel=1e-12)


def test_an_influence_is_what_a_little_more_of_a_sample_changes():
    p = probabilities(60)

    def weighted(weights: np.ndarray) -> float:
        marginal = weights @ p
        return float(np.exp(weights @ rel_entr(p, marginal).sum(1)))

    uniform, step = np.full(60, 1 / 60), 1e-6
    ways = (np.eye(60) - uniform) * step
    slopes = [(weighted(uniform + way) - weighted(uniform - way)) / (2 * step) for way in ways]
    influences = whole_inception_score(p).influences
    assert len(influences) == 1
    np.testing.assert_allclose(influences[0], slopes, rtol=1e-5, atol=1e-6)


def test_the_interval_is_that_of_a_true_bootstrap():
    rng = np.random.default_rng(8)
    p = rng.dirichlet(np.full(5, 0.3), size=1_000)
    logs = p * np.log(p)
    values = []
    for _ in range(400):
        rows = rng.integers(1_000, size=1_000)
        marginal = p[rows].mean(0)
        values.append(np.exp(logs[rows].sum(1).mean() - (marginal * np.log(marginal)).sum()))
    low, high = whole_inception_score(p).interval()
    assert high - low == pytest.approx(2 * 1.96 * np.std(values), rel=0.15)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (np.ones(3), "probabilities are"),
        (np.ones((0, 3)), "probabilities are"),
        (np.ones((3, 0)), "probabilities are"),
        (np.ones((3, 2)), "a sum of 1 in each row"),
        ([[1.5, -0.5]], "0 or more"),
        ([[np.nan, 1.0]], "0 or more"),
        ([[0.5, 0.49]], "a sum of 1"),
    ],
)
def test_what_is_no_distribution_is_refused(wrong, says):
    for score in (whole_inception_score, lambda p: inception_score(p, splits=1)):
        with pytest.raises(ValueError, match=says):
            score(np.array(wrong))


@pytest.mark.parametrize("splits", [0, 11])
def test_splits_that_cannot_be_are_refused(splits):
    with pytest.raises(ValueError, match=f"10 samples cannot be split in {splits}"):
        inception_score(np.full((10, 2), 0.5), splits=splits)
