"""Modes: how many are covered, and how evenly, where the true ones are known.

Points of a mixture of Gaussians with known centres; images of three stacked digits.

Srivastava et al., 2017 (VEEGAN, arXiv:1705.07761), section 4.1: of 2,500 drawn points, those within three deviations of
the nearest centre are of high quality, and a mode is covered if one such point lies near it.

    about = source.spec["real"].about
    coverage(points, about["modes"], about["sigma"])
"""

from collections.abc import Callable, Sequence
from math import erf, sqrt
from typing import NamedTuple

import numpy as np

from elegan.metrics.estimate import Estimate
from elegan.metrics.neighbours import checked


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


class Divergence(NamedTuple):
    """How far points are from the mixture they should come from, in nats; 0 only where both are alike.

    `kl` and `js` compare the cells of a histogram, `mode_kl` the modes that points lie nearest to. All are plug-in
    values: of N exact samples spread over C cells a Kullback-Leibler divergence comes out near (C − 1) / 2N, not at 0.
    """

    kl: Estimate
    js: Estimate
    mode_kl: Estimate


def divergence(
    points: np.ndarray, modes: Sequence[Sequence[float]], sigma: float, *, cells: int = 30, smoothing: float = 1e-6
) -> Divergence:
    """Of points (N, 2) from equal Gaussians of deviation `sigma` around `modes` (M, 2), in the units of the data.

    The window is the box of the modes, wider by 5 sigma on each side, of `cells` × `cells`; what lies outside it is one
    more cell. A cell's expected share is the integral of the mixture's density.
    kl: KL(points ‖ mixture), the mixture mixed with `smoothing` of a uniform one, so that a point where none should be
    costs much but not everything. js: Jensen and Shannon's, in [0, ln 2], not smoothed. mode_kl: KL(points ‖ uniform)
    of the nearest modes of all points, far ones too, in [0, ln M].
    ValueError unless points and modes are finite and in the plane, and sigma above 0.
    """
    points, centres = (np.asarray(z, np.float64) for z in checked(points, np.asarray(modes)))
    if centres.shape[1] != 2 or not sigma > 0:
        raise ValueError(f"modes lie in the plane, of deviation above 0: not {centres.shape[1]}-d, {sigma:g}")
    low, high = centres.min(0) - 5 * sigma, centres.max(0) + 5 * sigma
    edges = np.linspace(low, high, cells + 1)  # (cells + 1, 2)
    below = np.vectorize(erf)((edges[:, None] - centres) / (sqrt(2) * sigma)) / 2  # (cells + 1, M, 2), Φ − ½
    across, along = np.diff(below, axis=0).transpose(2, 0, 1)  # (cells, M) each
    truth = (across @ along.T / len(centres)).ravel()
    truth = np.append(truth, max(1 - truth.sum(), 0.0))
    column, row = (np.searchsorted(edges[1:, axis], points[:, axis]) for axis in (0, 1))
    outside = ((points < low) | (points > high)).any(1)
    cell = np.where(outside, cells * cells, column * cells + row)
    found = np.bincount(cell, minlength=len(truth)) / len(points)
    kl = _log_ratio(found, (1 - smoothing) * truth + smoothing / len(truth))
    js, js_of_truth = (_log_ratio(p, (found + truth) / 2) / 2 for p in (found, truth))
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(1)  # (N,)
    return Divergence(
        Estimate(float(found @ kl), [kl[cell]]),
        Estimate(float(found @ js + truth @ js_of_truth), [js[cell]]),
        _to_uniform(nearest, len(centres)),
    )


class StackedModes(NamedTuple):
    """How many `modes` of `total` are covered, and KL(images ‖ uniform) over them in nats."""

    modes: int
    total: int
    kl: Estimate


def stacked_modes(images: np.ndarray, classify: Callable[[np.ndarray], np.ndarray]) -> StackedModes:
    """Modes of images (N, 3, H, W) of three stacked digits each, as `classify` reads them.

    `classify` gives the class probabilities (n, K) of images (n, 1, H, W); a channel counts as its likeliest class, an
    image as one of K³ modes, covered if one image falls in it. By custom N is 26,000 (Srivastava et al., 2017, section
    4.2; Lin et al., 2018, arXiv:1712.04086). ValueError unless images have three channels and probabilities fit.

        stacked_modes(images, lambda digits: digits_cnn.load().embed(digits)[1])
    """
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(f"stacked digits are (N, 3, H, W) with N of 1 or more, not {images.shape}")
    mode, total = np.zeros(len(images), np.int64), 1
    for channel in range(3):
        (probabilities,) = checked(classify(images[:, channel : channel + 1]))
        if len(probabilities) != len(images):
            raise ValueError(f"{len(images)} images were classified as {len(probabilities)}")
        mode, total = mode * probabilities.shape[1] + probabilities.argmax(1), total * probabilities.shape[1]
    return StackedModes(len(np.unique(mode)), total, _to_uniform(mode, total))


def _to_uniform(mode: np.ndarray, total: int) -> Estimate:
    """KL(p ‖ uniform) = Σ p ln(p · total) of the shares p of `mode` (N,) in 0 … total − 1."""
    found = np.bincount(mode, minlength=total) / len(mode)
    ratio = _log_ratio(found, np.full(total, 1 / total))
    return Estimate(float(found @ ratio), [ratio[mode]])


def _log_ratio(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """ln(p / q), 0 where p is 0: there it weighs nothing."""
    return np.log(np.divide(p, q, out=np.ones_like(p), where=p > 0))
