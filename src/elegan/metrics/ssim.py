"""Structural similarity: are local means, contrasts and structures of two images alike?

Wang, Bovik, Sheikh and Simoncelli, 2004, Equation 13.

    ssim(restored, original, crop=4, luma=True)
"""

import numpy as np

from elegan.metrics.estimate import Estimate
from elegan.metrics.psnr import paired

SIDE, SIGMA = 11, 1.5  # of the Gaussian window, pixels
K1, K2 = 0.01, 0.03


def ssim(a: np.ndarray, b: np.ndarray, *, peak: float = 255, crop: int = 0, luma: bool = False) -> Estimate:
    """The mean SSIM of each image of a and b, (N, C, H, W), and their mean, in [-1, 1]; equal: 1.

    Windows of 11×11 lie wholly inside the image, channels count alike. peak, crop, luma, influences: as of `psnr`.
    ValueError if images differ in shape, are not finite or not (N, C, H, W), or are smaller than a window when cropped.
    """
    each = np.array([_similarity(one, two, peak).mean() for one, two in paired(a, b, peak, crop, luma, least=SIDE)])
    return Estimate(float(each.mean()), [each])


def _similarity(x: np.ndarray, y: np.ndarray, peak: float) -> np.ndarray:
    """The map of SSIM of x and y, (C, H, W): (C, H − 10, W − 10)."""
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    mean_x, mean_y = _smooth(x), _smooth(y)
    var_x, var_y = _smooth(x * x) - mean_x**2, _smooth(y * y) - mean_y**2
    both = _smooth(x * y) - mean_x * mean_y
    return ((2 * mean_x * mean_y + c1) * (2 * both + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def _smooth(x: np.ndarray) -> np.ndarray:
    """x (C, H, W) weighed by the window wherever it fits: (C, H − 10, W − 10)."""
    weights = np.exp(-((np.arange(SIDE) - SIDE // 2) ** 2) / (2 * SIGMA**2))
    weights /= weights.sum()
    height, width = x.shape[1] - SIDE + 1, x.shape[2] - SIDE + 1
    x = np.sum([w * x[:, n : n + height] for n, w in enumerate(weights)], axis=0)
    return np.sum([w * x[:, :, n : n + width] for n, w in enumerate(weights)], axis=0)
