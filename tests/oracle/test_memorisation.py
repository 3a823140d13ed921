"""Memorisation against brute force and scipy; copies are exposed, fresh samples are not."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu, norm

from elegan.metrics.memorisation import authenticity, copying, memorisation_distance, penalised
from elegan.metrics.neighbours import nearest

RNG = np.random.default_rng(13)
TRAINING, FRESH, HELD_OUT = (RNG.normal(size=(count, 8)) for count in (500, 300, 400))
COPIES = TRAINING[RNG.integers(500, size=300)]
BLURRED = COPIES + 0.05 * RNG.normal(size=COPIES.shape)


def test_authenticity_is_that_of_the_whole_matrix():
    apart = cdist(FRESH, TRAINING)
    within = cdist(TRAINING, TRAINING) + np.diag(np.full(500, np.inf))
    expected = apart.min(1) > within.min(1)[apart.argmin(1)]
    found = authenticity(FRESH, TRAINING)
    np.testing.assert_array_equal(found.influences[0], 100 * expected)
    assert found.value == pytest.approx(100 * expected.mean())
    assert authenticity(TRAINING[:7], FRESH).value != found.value


def test_authenticity_by_hand():
    """3 is one from 4, which is one from 5: as near as that is no more authentic than a copy."""
    training = np.array([[0.0], [4.0], [5.0]])
    drawn = np.array([[3.0], [2.5], [5.5], [7.0], [0.0], [-4.0], [-5.0]])
    assert authenticity(drawn, training).influences[0].tolist() == [0, 100, 0, 100, 0, 0, 100]


def test_copies_are_exposed_by_each_and_fresh_samples_by_none():
    assert authenticity(COPIES, TRAINING).value == 0
    assert authenticity(BLURRED, TRAINING).value == 0
    assert 30 < authenticity(FRESH, TRAINING).value < 70

    real = memorisation_distance(HELD_OUT, TRAINING).value
    assert memorisation_distance(COPIES, TRAINING).value < 1e-15
    assert memorisation_distance(BLURRED, TRAINING).value < 0.05 * real
    assert memorisation_distance(FRESH, TRAINING).value == pytest.approx(real, rel=0.1)

    assert copying(COPIES, TRAINING, HELD_OUT) < -20
    assert copying(BLURRED, TRAINING, HELD_OUT) < -20
    assert abs(copying(FRESH, TRAINING, HELD_OUT)) < 2.5
    assert copying(FRESH + 3, TRAINING, HELD_OUT) > 20


def test_a_few_copies_are_found():
    some = np.concatenate([FRESH[:150], COPIES[:150]])
    assert authenticity(some, TRAINING).value == pytest.approx(authenticity(FRESH[:150], TRAINING).value / 2)
    assert copying(some, TRAINING, HELD_OUT) < -5


def test_memorisation_distance_is_the_least_cosine_distance():
    found = memorisation_distance(FRESH, TRAINING)
    expected = cdist(FRESH, TRAINING, "cosine").min(1)
    np.testing.assert_allclose(found.influences[0], expected, rtol=1e-9)
    assert found.value == pytest.approx(expected.mean(), rel=1e-9)
    assert memorisation_distance(FRESH * 7, TRAINING).value == pytest.approx(found.value, rel=1e-9)


def test_a_penalty_is_for_what_is_below_the_threshold():
    assert penalised(12.0, 0.05, threshold=0.1) == pytest.approx(240)
    assert penalised(12.0, 0.1, threshold=0.1) == 12
    assert penalised(12.0, 0.0, threshold=0.1) == pytest.approx(1.2e7)
    assert penalised(0.0, 0.0, threshold=0.1) == 0
    with pytest.raises(ValueError, match="0 or more"):
        penalised(12.0, float("nan"), threshold=0.1)


@pytest.mark.parametrize("ties", [False, True])
def test_copying_is_the_u_statistic_of_scipy(ties):
    sets = [np.round(x) if ties else x for x in (FRESH[:40, :2], TRAINING[:60, :2], HELD_OUT[:50, :2])]
    ours, theirs = (cdist(x, sets[1]).min(1) for x in (sets[0], sets[2]))
    p = mannwhitneyu(ours, theirs, alternative="less", use_continuity=False, method="asymptotic").pvalue
    assert copying(*sets) == pytest.approx(norm.ppf(p), abs=1e-9)
    assert (len(np.unique(ours)) < 20) == ties


def test_all_alike_says_nothing():
    assert copying(COPIES, TRAINING, COPIES) == 0


def test_the_sheet_has_the_rows_of_training():
    found = nearest(BLURRED, TRAINING)
    np.testing.assert_array_equal(TRAINING[found.which[:, 0]], COPIES)
    np.testing.assert_allclose(found.distance[:, 0], np.linalg.norm(BLURRED - COPIES, axis=1))


def test_what_cannot_be_compared_is_refused():
    x = np.ones((3, 2))
    with pytest.raises(ValueError, match="2 nearest neighbours among 1"):
        authenticity(x, x[:1])
    with pytest.raises(ValueError, match="no direction"):
        memorisation_distance(x * 0, x)
    with pytest.raises(ValueError, match="2 and of 1 dimensions"):
        copying(x, x, x[:, :1])
    with pytest.raises(ValueError, match="not all finite"):
        copying(x * np.inf, x, x)
