"""Memorisation: are drawn samples new, or the training set given back?

Each number is a question to the nearest training sample; look at it too: `nearest(drawn, training)` has the rows for a
sheet. Features decide what is near, so a copy that was moved or recoloured is found only by features that forgive it.
"""

import numpy as np

from elegan.metrics.estimate import Estimate
from elegan.metrics.neighbours import checked, nearest


def authenticity(drawn: np.ndarray, training: np.ndarray) -> Estimate:
    """AuthPct: the percentage of drawn features (N, d) that are no copies of training features (M, d), in [0, 100].

    A sample is authentic if it is farther from its nearest training sample than that one is from its own nearest
    neighbour in training. Copies score 0; samples drawn as the training set was, far from 0 and from 100.
    Alaa et al., 2022, arXiv:2102.08921, section 5. ValueError if features do not match or there is one training sample.
    """
    drawn, training = checked(drawn, training)
    to_training = nearest(drawn, training)
    asked, who = np.unique(to_training.which[:, 0], return_inverse=True)  # few of many: not all neighbours are needed
    between = nearest(training[asked], training, k=2).squared[:, 1]  # the nearest but itself
    authentic = 100.0 * (to_training.squared[:, 0] > between[who])
    return Estimate(float(authentic.mean()), [authentic])


def memorisation_distance(drawn: np.ndarray, training: np.ndarray) -> Estimate:
    """The mean over drawn features (N, d) of the least cosine distance to a training one (M, d), in [0, 2]; copies 0.

    Bai et al., 2021, arXiv:2106.03062. ValueError if features do not match or one is all zeros: it has no direction.
    """
    one, two = (directions(x) for x in checked(drawn, training))
    least = nearest(one, two).squared[:, 0] / 2  # |u − v|² = 2 − 2 u·v of unit vectors
    return Estimate(float(least.mean()), [least])


def penalised(distance: float, memorisation: float, *, threshold: float) -> float:
    """A Fréchet distance as MiFID has it: divided by a memorisation distance below `threshold`, else as it is.

    What is suspiciously near depends on the features, so there is no default: take somewhat less than the memorisation
    distance of real samples held out from training. The divisor is at least 1e-6. Bai et al., 2021, arXiv:2106.03062.
    ValueError unless memorisation is 0 or more.
    """
    if not memorisation >= 0:
        raise ValueError(f"a memorisation distance is 0 or more, not {memorisation:g}")
    return distance / max(memorisation, 1e-6) if memorisation < threshold else distance


def copying(drawn: np.ndarray, training: np.ndarray, held_out: np.ndarray) -> float:
    """C_T: are drawn features (N, d) nearer to training (M, d) than held-out real ones (K, d) are? A z-score.

    That of Mann and Whitney's U of the distances to the nearest training sample, ties counted half. Far below 0, say
    under −3: copies. Around 0: as new as real ones. Far above: off the data.
    Meehan, Chaudhuri and Dasgupta, 2020, arXiv:2004.05675, section 4, with the whole space for a single cell.
    ValueError if features do not match.
    """
    drawn, training, held_out = checked(drawn, training, held_out)
    ours, theirs = (nearest(x, training).squared[:, 0] for x in (drawn, held_out))
    n, k = len(ours), len(theirs)
    _, of_value, ties = np.unique(np.concatenate([ours, theirs]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[of_value]  # the mean rank of equal ones, from 1
    above = ranks[:n].sum() - n * (n + 1) / 2  # pairs of which the drawn one is farther
    variance = n * k / 12 * (n + k + 1 - (ties**3.0 - ties).sum() / ((n + k) * (n + k - 1)))
    return float((above - n * k / 2) / np.sqrt(variance)) if variance > 0 else 0.0


def directions(x: np.ndarray) -> np.ndarray:
    """Rows of x (N, d) over their norms, float64. ValueError if a row is all zeros."""
    norms = np.linalg.norm(x := np.asarray(x, np.float64), axis=1, keepdims=True)
    if not norms.all():
        raise ValueError("a sample whose features are all zeros has no direction")
    return x / norms
