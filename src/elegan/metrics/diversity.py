"""Diversity: how different drawn samples are from each other, whatever they should look like.

diversity(drawn, real)  # 1: as different as real ones; 0: all the same
vendi(drawn)  # 1: all the same; N: nothing in common
"""

import numpy as np

from elegan.metrics.estimate import Estimate
from elegan.metrics.memorisation import directions
from elegan.metrics.neighbours import checked, squared_distances


def mean_distance(x: np.ndarray) -> Estimate:
    """The mean Euclidean distance of two samples of features or flat pixels (N, d), in their units; all equal: 0.

    ValueError if they are not finite or fewer than two.
    """
    (x,) = checked(x, least=2)
    each = np.concatenate([np.sqrt(squared).sum(1) for _, squared in squared_distances(x)]) / (len(x) - 1)
    return Estimate(float(each.mean()), [2 * each])  # a sample is in two places of a pair


def diversity(drawn: np.ndarray, real: np.ndarray) -> Estimate:
    """The mean distance within drawn features (N, d) over that within real ones (M, d). Both carry the interval.

    ValueError if features do not match, are fewer than two, or real ones are all equal.
    """
    ours, theirs = (mean_distance(x) for x in checked(drawn, real))
    if not theirs.value:
        raise ValueError("real samples are all equal: nothing is as different as they are")
    ratio = ours.value / theirs.value
    return Estimate(ratio, [ours.influences[0] / theirs.value, -ratio * theirs.influences[0] / theirs.value])


def class_diversity(
    drawn: np.ndarray, labels: np.ndarray, real: np.ndarray, real_labels: np.ndarray
) -> dict[int, Estimate]:
    """`diversity` within each class of the real data: class -> ratio. Labels are whole numbers, (N,) and (M,).

    A collapse within classes shows here and not in `diversity`, where classes differ anyway.
    ValueError as of `diversity`, of the class that has it.
    """
    found = {}
    for label in np.unique(real_labels):
        try:
            found[int(label)] = diversity(drawn[labels == label], real[real_labels == label])
        except ValueError as error:
            raise ValueError(f"class {label}: {error}") from error
    return found


def vendi(x: np.ndarray) -> Estimate:
    """The Vendi score of features (N, d): the effective number of different samples, in [1, min(N, d)].

    exp of the entropy of the eigenvalues of K / N, K the cosine similarities. XᵀX / N has the same eigenvalues but for
    zeros, and (d, d) entries however many samples there are.
    Friedman and Dieng, 2022, arXiv:2210.02410, Definition 3.1 and section 3. ValueError if a sample is all zeros.
    """
    unit = directions(*checked(x))
    values, vectors = np.linalg.eigh(unit.T @ unit / len(unit))
    kept = values > len(values) * np.finfo(float).eps  # the others are zeros, and weigh nothing
    surprise = -np.log(values[kept])
    score = float(np.exp(values[kept] @ surprise))
    return Estimate(score, [score * ((unit @ vectors[:, kept]) ** 2 @ surprise)])
