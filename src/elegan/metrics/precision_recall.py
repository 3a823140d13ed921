"""Precision and recall, density and coverage: how much of each set lies where the other has its samples.

Kynkäänniemi et al., 2019, arXiv:1904.06991, section 2: a set's manifold is the union of balls around its samples, each
reaching to the sample's k-th nearest neighbour, that one included. Naeem et al., 2020, arXiv:2002.09797, section 3.

    precision, recall, density, coverage = precision_recall(real, drawn)
"""

from typing import NamedTuple

import numpy as np

from elegan.metrics.estimate import Estimate
from elegan.metrics.neighbours import Pairs, checked, nearest


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1], and a density which is 1 in expectation where both sets are drawn alike.

    The samples that are counted carry the intervals, drawn ones of `precision` and `density`, real ones of `recall` and
    `coverage`; the balls they are counted by are held fixed.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def precision_recall(
    real: np.ndarray, drawn: np.ndarray, *, k: int = 3, density_k: int = 5, around_real: np.ndarray | None = None
) -> PrecisionRecall:
    """Of real features (N, d) and drawn ones (M, d).

    precision: the share of drawn samples inside the ball of some real one; recall: of real ones inside one of a drawn.
    density: how many real balls hold a drawn sample, over `density_k`; coverage: the share of real balls that hold any.
    `k` is the neighbour that balls of precision and recall reach to, `density_k` that of density and coverage.
    around_real: squared distances of each real sample to its nearest others, (N, 5 or more), if they are known already.
    ValueError if features do not match, are not finite, or are too few to have such a neighbour.
    """
    real, drawn = checked(real, drawn)
    if around_real is None:
        around_real = nearest(real, k=max(k, density_k)).squared  # (N, K)
    around_drawn = nearest(drawn, k=k).squared[:, -1]  # (M,)
    precise, hits = np.zeros(len(drawn), bool), np.zeros(len(drawn))
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for block in Pairs(real, drawn).blocks():
        precise |= block.within(around_real[block.rows, k - 1, None]).any(0)
        recalled[block.rows] = block.within(around_drawn[None]).any(1)
        inside = block.within(around_real[block.rows, density_k - 1, None])
        hits += inside.sum(0)
        covered[block.rows] = inside.any(1)
    each = precise, recalled, hits / density_k, covered
    return PrecisionRecall(*(Estimate(float(x.mean()), [x.astype(np.float64)]) for x in each))
