"""The classification accuracy score: high for real digits, chance for shuffled labels, blind to what was left out."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from elegan.data.sources import open_data
from elegan.metrics import cas as cas_room
from elegan.metrics.cas import cas

Rows = tuple[np.ndarray, np.ndarray]
RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def digits() -> tuple[Rows, Rows]:
    train, test = open_data("digits").arrays, open_data("digits", split="test").arrays
    return (train["real"][:4_000], train["label"][:4_000]), (test["real"][:2_000], test["label"][:2_000])


def test_real_digits_teach_it_digits(digits):
    (rows, labels), (test_rows, test_labels) = digits
    torch.manual_seed(3)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = cas(rows, labels, test_rows, test_labels, classes=10)
        assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
    assert found.value > 0.95
    (right,) = found.influences
    assert right.shape == (2_000,)
    assert found.value == right.mean()
    low, high = found.interval()
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(found.value * (1 - found.value) / 2_000), rel=0.15)
    assert (torch.rand(3) == expected).all(), "the caller's random state is as it was"
    assert torch.get_num_threads() == threads


def test_shuffled_labels_teach_it_nothing(digits):
    (rows, labels), test = digits
    assert cas(rows[:800], RNG.permutation(labels[:800]), *test, classes=10).value == pytest.approx(0.1, abs=0.05)


def test_a_class_left_out_is_never_named(digits):
    (rows, labels), (test_rows, test_labels) = digits
    some = labels[:1_500] != 7
    found = cas(rows[:1_500][some], labels[:1_500][some], test_rows, test_labels, classes=10)
    recalls = [found.influences[0][test_labels == c].mean() for c in range(10)]
    assert recalls[7] == 0
    assert min(recalls[:7] + recalls[8:]) > 0.6
    assert found.value > 0.75


def test_a_seed_is_a_score(monkeypatch):
    monkeypatch.setattr(cas_room, "LEAST_STEPS", 4)
    monkeypatch.setattr(cas_room, "PASSES", 1)
    rows, labels = RNG.integers(0, 256, (200, 3, 17, 16), dtype=np.uint8), RNG.integers(0, 3, 200)
    one, same, other = (cas(rows, labels, rows, labels, classes=3, seed=seed).influences[0] for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()
    monkeypatch.setattr(cas_room, "BLOCK", 1)
    alone = cas(rows, labels, rows, labels, classes=3).influences[0]
    assert (alone == one).all(), "what a row is taken for is no matter of its company"


def test_a_colour_is_a_class_and_the_last_block_counts(monkeypatch):
    """Only the mean of the second channel tells: seen by whoever reads all channels, of all test rows, in order."""
    labels = RNG.integers(0, 2, 300)
    rows = RNG.integers(0, 100, (300, 3, 8, 8), dtype=np.uint8)
    rows[:, 1] += (100 * labels).astype(np.uint8)[:, None, None]
    monkeypatch.setattr(cas_room, "BLOCK", 70)
    assert cas(rows, labels, rows, labels, classes=2).value == 1
    assert cas(rows, labels, rows, 1 - labels, classes=2).value == 0


def test_of_features_it_is_scikit_learns_regressions():
    centres = RNG.normal(size=(4, 5)) * 1.5
    labels, test_labels = RNG.integers(0, 4, 400), RNG.integers(0, 4, 300)
    x, y = (centres[of] + RNG.normal(size=(len(of), 5)) for of in (labels, test_labels))
    found = cas(x, labels, y, test_labels, classes=4)
    scaler = StandardScaler().fit(x)
    known = OneVsRestClassifier(LogisticRegression(C=1.0, tol=1e-10)).fit(scaler.transform(x), labels)
    right = known.predict(scaler.transform(y)) == test_labels
    assert 0.6 < found.value < 0.99
    assert (found.influences[0] == right).all()
    missing = cas(x[labels != 2], labels[labels != 2], y, test_labels, classes=6)
    assert missing.influences[0][test_labels == 2].max() == 0
    only = cas(x[labels == 3], labels[labels == 3], y, test_labels, classes=4)
    assert (only.influences[0] == (test_labels == 3)).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train_labels": np.zeros(3, int)}, "do not fit"),
        ({"test_rows": np.zeros((4, 3))}, "do not fit"),
        ({"train_rows": np.zeros((0, 2)), "train_labels": np.zeros(0, int)}, "do not fit"),
        ({"train_labels": np.zeros(4)}, "whole numbers"),
        ({"train_labels": np.zeros((4, 1), int)}, "whole numbers"),
        ({"test_labels": np.array([0, 1, 2, 1])}, "0 to 2 are not all among 2"),
        ({"test_labels": np.array([0, 1, -1, 1])}, "-1 to 1 are not all"),
    ],
)
def test_what_does_not_fit_is_refused(change, says):
    usual = {"train_rows": np.eye(4)[:, :2], "test_rows": np.eye(4)[:, :2]}
    usual |= {"train_labels": np.array([0, 1, 0, 1]), "test_labels": np.array([0, 1, 0, 1])}
    with pytest.raises(ValueError, match=says):
        cas(**{**usual, **change}, classes=2)


def test_images_are_uint8():
    rows = np.zeros((4, 1, 8, 8), np.float32)
    with pytest.raises(ValueError, match="uint8 images"):
        cas(rows, np.zeros(4, int), rows, np.zeros(4, int), classes=2)
