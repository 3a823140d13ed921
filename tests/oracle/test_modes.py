"""Mode coverage by hand, and of real points."""

import numpy as np
import pytest

from elegan.data.readers.toys import MODES
from elegan.data.sources import open_data
from elegan.metrics.modes import coverage


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
