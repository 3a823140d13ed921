"""FD∞: the Fréchet distance of endlessly many samples, extrapolated from those there are.

Chong and Forsyth, 2020, arXiv:1911.07023. A distance of N samples is too large by about c/N, and c depends on what is
measured: two games rank differently at 5,000 samples and at 50,000. Here both sides are subsampled, as both have the
bias, and the line through 1/N is that of the jackknife (Quenouille, 1949): the whole against the whole less a tenth.
Of lines through smaller portions it has the least noise and the least of what is not linear: at N = 2 d, where the
distance itself was five times the truth, the mean of twenty draws was within 4 % of it (`benchmarks/frechet.py`).
"""

import numpy as np

from elegan.metrics.estimate import Estimate
from elegan.metrics.frechet import Moments, frechet_distance, influence

FOLDS = 10


def frechet_infinity(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> Estimate:
    """FD∞ of features x (N, d) and y (M, d), in squared units of the features, with the influences of both sides.

    The influences are those of the distance itself: to first order both fluctuate alike. Around 0 the value may be
    negative, and it is for a set against itself, as the sides are taken for independent. `seed` decides which samples
    are left out together. Raises `ValueError` as `Moments.of` does, and where a side less a tenth has no more samples
    than dimensions: there the distance is no line in 1/N.
    """
    a, b = Moments.of(x), Moments.of(y)
    value = frechet_distance(a, b)
    few, d = min(a.count, b.count), len(a.mean)
    if few * (FOLDS - 1) // FOLDS <= max(d, FOLDS):
        raise ValueError(f"{few} samples are too few to extrapolate a distance in {d} dimensions from")
    rng = np.random.default_rng(seed)
    folds = (np.array_split(rng.permutation(count), FOLDS) for count in (a.count, b.count))
    fewer = [frechet_distance(a - Moments.of(x[i]), b - Moments.of(y[j])) for i, j in zip(*folds, strict=True)]
    limit = FOLDS * value - (FOLDS - 1) * float(np.mean(fewer))
    return Estimate(limit, (influence(x, a, b), influence(y, b, a)))
