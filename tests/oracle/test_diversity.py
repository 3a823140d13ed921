"""Diversity and the Vendi score against whole matrices of pairs, and by hand."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import entropy

from elegan.metrics import neighbours
from elegan.metrics.diversity import class_diversity, diversity, mean_distance, vendi

RNG = np.random.default_rng(17)


def test_the_mean_distance_is_that_of_all_pairs(monkeypatch):
    x = RNG.normal(size=(40, 6)) + 50
    assert mean_distance(x).value == pytest.approx(pdist(x).mean(), rel=1e-10)
    monkeypatch.setattr(neighbours, "BLOCK", 100)
    assert mean_distance(x).value == pytest.approx(pdist(x).mean(), rel=1e-10)
    bytes_ = RNG.integers(0, 256, (40, 6), dtype=np.uint8)
    assert mean_distance(bytes_).value == pytest.approx(pdist(bytes_.astype(float)).mean(), rel=1e-10)


def test_diversity_is_a_ratio_to_real_data():
    real = RNG.normal(size=(30, 5))
    assert diversity(real * 0.4 + 7, real).value == pytest.approx(0.4, rel=1e-9)
    assert diversity(np.full((9, 5), 0.1), real).value == 0


def test_classes_are_measured_apart():
    """Collapsed within each class, as different between them as real ones."""
    labels = np.arange(200) % 4
    centres = 10 * np.eye(4)
    real, collapsed = centres[labels] + RNG.normal(size=(200, 4)), centres[labels]
    assert diversity(collapsed, real).value > 0.8
    assert {label: estimate.value for label, estimate in class_diversity(collapsed, labels, real, labels).items()} == {
        0: 0, 1: 0, 2: 0, 3: 0,
    }  # fmt: skip
    scaled = centres[labels] + (real - centres[labels]) * (0.5 + labels[:, None])
    for label, estimate in class_diversity(scaled, labels, real[::-1], labels[::-1]).items():
        assert estimate.value == pytest.approx(0.5 + label, rel=1e-9)


def bootstrap(measure, sets: list[np.ndarray], side: int, times: int = 300) -> float:
    """The deviation of a measure as one of its sets is resampled; a pair of one sample and itself is not a pair."""
    rng, found = np.random.default_rng(0), []
    for _ in range(times):
        rows = rng.integers(len(sets[side]), size=len(sets[side]))
        found.append(measure(*(x[rows] if n == side else x for n, x in enumerate(sets))))
    return float(np.std(found))


def test_influences_spread_as_a_bootstrap_does():
    x, y = RNG.exponential(size=(250, 3)), RNG.normal(size=(200, 3))
    found = diversity(x, y)
    for side, influence in enumerate(found.influences):
        spread = bootstrap(lambda a, b: pdist(a).mean() / pdist(b).mean(), [x, y], side)
        assert influence.std() / len(influence) ** 0.5 == pytest.approx(spread, rel=0.15)
    y[7] += 50  # makes real data more different, and so the ratio less
    assert diversity(x, y).influences[1].argmin() == 7
    found = vendi(x)
    spread = bootstrap(lambda a: vendi(a).value, [x], 0)
    assert found.influences[0].std() / 250**0.5 == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize(("n", "d"), [(30, 6), (10, 40), (20, 20)])
def test_vendi_is_the_entropy_of_the_matrix_of_similarities(n, d):
    x = RNG.normal(size=(n, d)) + 0.5
    similar = 1 - squareform(pdist(x, "cosine"))
    expected = np.exp(entropy(np.linalg.eigvalsh(similar / n).clip(0)))
    assert vendi(x).value == pytest.approx(expected, rel=1e-9)
    assert vendi(x * RNG.uniform(1, 9, (n, 1))).value == pytest.approx(expected, rel=1e-9)


def test_vendi_counts_what_is_different():
    assert vendi(np.full((20, 4), 0.1)).value == pytest.approx(1, abs=1e-12)
    assert vendi(np.eye(7)).value == pytest.approx(7)
    assert vendi(np.repeat(np.eye(3), 5, 0)).value == pytest.approx(3)
    assert vendi(np.repeat(np.eye(2), [9, 1], 0)).value == pytest.approx(np.exp(entropy([0.9, 0.1])))


def test_what_has_no_diversity_is_refused():
    x = RNG.normal(size=(6, 3))
    with pytest.raises(ValueError, match="2 or more"):
        mean_distance(x[:1])
    with pytest.raises(ValueError, match="all equal"):
        diversity(x, np.ones((4, 3)))
    with pytest.raises(ValueError, match="3 and of 2 dimensions"):
        diversity(x, x[:, :2])
    with pytest.raises(ValueError, match="class 1: features"):
        class_diversity(x, np.zeros(6, int), x, np.arange(6) % 2)
    with pytest.raises(ValueError, match="no direction"):
        vendi(np.zeros((2, 2)))
