"""Modes by hand, of real points and digits, and against scipy."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import entropy, norm

from elegan.data.readers.toys import MODES
from elegan.data.sources import open_data
from elegan.embedders import digits_cnn
from elegan.metrics.modes import coverage, divergence, stacked_modes

RNG = np.random.default_rng(23)


def test_points_are_counted_by_hand():
    points = np.array([[0, 0.3], [0, -0.29], [5, 5], [1, 0.31], [0, 2.0]])
    assert coverage(points, [(0, 0), (1, 0), (0, 2)], sigma=0.1) == (2, 3, 3 / 5)
    assert coverage(points, [(0, 0), (1, 0), (0, 2)], sigma=0.1, within=4) == (3, 3, 4 / 5)


@pytest.mark.parametrize("name", MODES)
def test_real_points_cover_every_mode(name):
    """Within three deviations in the plane lie 1 − exp(−9/2) = 98.9 % of a Gaussian."""
    source = open_data(name)
    about = source.spec["real"].about
    found = coverage(source.arrays["real"][:2_500], about["modes"], about["sigma"])
    assert found.modes == found.total == len(MODES[name][0])
    assert found.share == pytest.approx(1 - np.exp(-4.5), abs=0.01)


def test_nothing_near_covers_nothing():
    assert coverage(np.full((10, 2), 9.0), [(0, 0)], 0.1) == (0, 1, 0.0)


@pytest.fixture(params=MODES)
def mixture(request):
    """A toy's name, its modes and its deviation."""
    modes, sigma = MODES[request.param]
    return request.param, np.array(modes), sigma


def histogram(points: np.ndarray, modes: np.ndarray, sigma: float, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Found and expected shares of the window's cells and of all outside, by numpy's histogram, scipy's normal."""
    low, high = modes.min(0) - 5 * sigma, modes.max(0) + 5 * sigma
    edges = [np.linspace(low[axis], high[axis], cells + 1) for axis in (0, 1)]
    counts = np.histogram2d(*points.T, bins=edges)[0].ravel()
    found = np.append(counts, len(points) - counts.sum()) / len(points)
    parts = [np.diff(norm.cdf(edges[axis][:, None], modes[:, axis], sigma), axis=0) for axis in (0, 1)]
    truth = np.einsum("im,jm->ij", *parts).ravel() / len(modes)
    return found, np.append(truth, 1 - truth.sum())


@pytest.mark.parametrize("cells", [30, 7])
def test_divergences_are_scipys(mixture, cells):
    name, modes, sigma = mixture
    points = open_data(name).arrays["real"][:1_000].astype(float)
    points[:300] = points[0]
    points[300:400] += 3 * sigma
    points[400:420] = RNG.uniform(-9, 9, (20, 2))  # some outside the window
    found, truth = histogram(points, modes, sigma, cells)
    result = divergence(points, modes, sigma, cells=cells)
    smoothed = (1 - 1e-6) * truth + 1e-6 / (cells**2 + 1)
    assert result.kl.value == pytest.approx(entropy(found, smoothed), rel=1e-6)
    assert result.js.value == pytest.approx(jensenshannon(found, truth) ** 2, rel=1e-9)
    shares = np.bincount(cdist(points, modes).argmin(1), minlength=len(modes)) / len(points)
    assert result.mode_kl.value == pytest.approx(entropy(shares, np.full(len(modes), 1 / len(modes))), rel=1e-9)


def test_the_window_has_two_sides():
    """Wider than high, with no symmetry by which columns could be rows."""
    modes, sigma = np.array([[0.0, 0.0], [3.0, 1.0], [4.0, 0.0]]), 0.2
    points = modes[RNG.integers(3, size=400)] + sigma * RNG.normal(size=(400, 2))
    found, truth = histogram(points, modes, sigma, 30)
    assert divergence(points, modes, sigma).js.value == pytest.approx(jensenshannon(found, truth) ** 2, rel=1e-9)


def test_real_points_are_as_near_as_their_number_allows(mixture):
    """2N KL is about χ² of as many degrees as there are cells in use, but one."""
    name, modes, sigma = mixture
    points = open_data(name).arrays["real"]
    result = divergence(points, modes, sigma)
    used = (histogram(points, modes, sigma, 30)[1] > 2 / len(points)).sum()
    assert 0.3 * used < 2 * len(points) * result.kl.value < 2 * used
    assert 0 < result.js.value < used / len(points)
    assert 2 * len(points) * result.mode_kl.value < 3 * len(modes)


def test_a_lost_mode_and_a_collapse_cost_what_they_should(mixture):
    name, modes, sigma = mixture
    points = open_data(name).arrays["real"][:20_000]
    nearest = cdist(points, modes).argmin(1)
    lost = divergence(points[nearest > 0], modes, sigma)
    assert lost.mode_kl.value == pytest.approx(np.log(len(modes) / (len(modes) - 1)), abs=0.002)
    assert lost.kl.value == pytest.approx(lost.mode_kl.value, abs=0.01)
    collapsed = divergence(points[nearest == 0], modes, sigma)
    assert collapsed.mode_kl.value == pytest.approx(np.log(len(modes)))
    assert collapsed.kl.value == pytest.approx(np.log(len(modes)), abs=0.1)
    away = divergence(np.full((50, 2), 1e3), modes, sigma)
    assert away.js.value == pytest.approx(np.log(2), rel=1e-3)
    assert 8 < away.kl.value < np.log(1e6 * 901)


def test_a_divergence_is_that_of_each_point(mixture):
    name, modes, sigma = mixture
    points = open_data(name).arrays["real"][:500]
    result = divergence(points, modes, sigma)
    for estimate in (result.kl, result.mode_kl):
        assert estimate.influences[0].mean() == pytest.approx(estimate.value)
    found, truth = histogram(points.astype(float), modes, sigma, 30)
    step, cell = 1e-6, np.flatnonzero(found)[3]
    moved = (1 - step) * found
    moved[cell] += step
    change = (jensenshannon(moved, truth) ** 2 - jensenshannon(found, truth) ** 2) / step
    influence = result.js.influences[0]
    assert np.abs(influence - influence.mean() - change).min() < 1e-4


def test_modes_that_have_no_window_are_refused():
    with pytest.raises(ValueError, match="in the plane"):
        divergence(np.ones((5, 3)), np.ones((2, 3)), 0.1)
    with pytest.raises(ValueError, match="deviation above 0"):
        divergence(np.ones((5, 2)), np.ones((2, 2)), 0.0)
    with pytest.raises(ValueError, match="not all finite"):
        divergence(np.full((5, 2), np.nan), np.ones((2, 2)), 0.1)


def by_brightness(images: np.ndarray) -> np.ndarray:
    """Three classes, told by the first pixel, as probabilities that are never sure."""
    assert images.shape[1] == 1
    return np.eye(3)[images[:, 0, 0, 0]] * 0.5 + 0.5 / 3


def test_stacked_modes_are_counted_by_hand():
    first = np.array([[0, 1, 2], [0, 1, 2], [2, 1, 0], [0, 0, 0]], np.uint8)
    found = stacked_modes(first[:, :, None, None] * np.ones((1, 1, 4, 4), np.uint8), by_brightness)
    assert (found.modes, found.total) == (3, 27)
    assert found.kl.value == pytest.approx(entropy([0.5, 0.25, 0.25] + [0] * 24, np.full(27, 1 / 27)))
    assert found.kl.influences[0] == pytest.approx(np.log([27 / 2, 27 / 2, 27 / 4, 27 / 4]))
    every = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(27, 3, 1, 1).astype(np.uint8)
    found = stacked_modes(every, by_brightness)
    assert (found.modes, found.kl.value) == (27, pytest.approx(0, abs=1e-12))


def test_real_stacked_digits_are_read_as_they_are():
    """Of 1,500 uniform draws of 1,000 modes 1 − e^−1.5 are met; KL by their labels."""
    source = open_data("stacked-digits", split="test")
    images, labels = source.arrays["real"][:1_500], source.arrays["label"][:1_500]
    net = digits_cnn.load()
    found = stacked_modes(images, lambda digits: net.embed(digits)[1])
    assert found.total == 1_000
    assert found.modes == pytest.approx(len(np.unique(labels)), abs=8)
    shares = np.bincount(labels, minlength=1_000) / len(labels)
    assert found.kl.value == pytest.approx(entropy(shares, np.full(1_000, 1e-3)), abs=0.01)
    one = stacked_modes(np.repeat(images[:1], 20, 0), lambda digits: net.embed(digits)[1])
    assert (one.modes, one.kl.value) == (1, pytest.approx(np.log(1_000)))


def test_what_is_not_stacked_is_refused():
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
        stacked_modes(np.zeros((2, 1, 4, 4), np.uint8), by_brightness)
    with pytest.raises(ValueError, match="2 images were classified as 1"):
        stacked_modes(np.zeros((2, 3, 4, 4), np.uint8), lambda images: by_brightness(images)[:1])
