"""Mode coverage of points whose true distribution is a mixture of Gaussians with known centres.

Srivastava et al., 2017 (VEEGAN, arXiv:1705.07761), section 4.1: of 2,500 drawn points, those within three deviations of
the nearest centre are of high quality, and a mode is covered if one such point lies near it.

    about = source.spec["real"].about
    coverage(points, about["modes"], about["sigma"])
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Coverage(NamedTuple):
    """How many `modes` of `total` are covered, and the `share` of points of high quality, in [0, 1]."""

    modes: int
    total: int
    share: float


def coverage(points: np.ndarray, modes: Sequence[Sequence[float]], sigma: float, within: float = 3.0) -> Coverage:
    """The coverage of `modes` (M, d), each of deviation `sigma`, by points (N, d) in the units of the data."""
    centres = np.asarray(modes, np.float64)
    away = np.linalg.norm(np.asarray(points, np.float64)[:, None] - centres, axis=2)  # (N, M)
    good = away.min(1) <= within * sigma
    return Coverage(len(np.unique(away.argmin(1)[good])), len(centres), float(good.mean()))
