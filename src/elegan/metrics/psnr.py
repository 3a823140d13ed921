"""Peak signal-to-noise ratio: how near restored pixels are to the original ones, in decibels.

psnr(restored, original, crop=4, luma=True)  # as papers on 4x super-resolution have it
"""

from collections.abc import Iterator

import numpy as np

from elegan.metrics.estimate import Estimate


def psnr(a: np.ndarray, b: np.ndarray, *, peak: float = 255, crop: int = 0, luma: bool = False) -> Estimate:
    """10 log₁₀(peak² / mean squared error) of each image of a and b, (N, C, H, W), and their mean, in dB.

    Equal images are infinitely alike.
    peak: the largest value a pixel may have, not the largest it has. crop: pixels left out on each side.
    luma: of RGB images compare Y alone. The influences are the images' own values.
    ValueError if images differ in shape, are not finite or not (N, C, H, W), or nothing is left of them.
    """
    errors = np.array([((one - two) ** 2).mean() for one, two in paired(a, b, peak, crop, luma)])
    with np.errstate(divide="ignore"):
        each = 10 * np.log10(peak**2 / errors)
    return Estimate(float(each.mean()), [each])


def paired(
    a: np.ndarray, b: np.ndarray, peak: float, crop: int, luma: bool, least: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What two sets of images are compared by: image by image, (C, H, W) each, or (1, H, W) of luma, in float64.

    Raises what `psnr` raises, with `least` for the pixels that must be left on each side.
    """
    if a.shape != b.shape or a.ndim != 4 or not a.size:
        raise ValueError(f"images are (N, C, H, W) and of one shape, not {a.shape} and {b.shape}")
    if luma and a.shape[1] != 3:
        raise ValueError(f"luma is of RGB, not of {a.shape[1]} channels")
    if not 0 < peak < np.inf or crop < 0 or min(a.shape[2:]) - 2 * crop < least:
        raise ValueError(f"of {a.shape[2]}x{a.shape[3]} images, crop {crop}, peak {peak:g}: nothing to compare")
    inner = slice(crop, a.shape[2] - crop), slice(crop, a.shape[3] - crop)
    for images in zip(a, b, strict=True):
        one, two = (np.asarray(image[:, *inner], np.float64) for image in images)
        if not np.isfinite(one).all() or not np.isfinite(two).all():
            raise ValueError("pixels are not all finite")
        yield (luminance(one, peak), luminance(two, peak)) if luma else (one, two)


def luminance(rgb: np.ndarray, peak: float) -> np.ndarray:
    """Y of RGB (3, H, W), (1, H, W): ITU-R BT.601 with its head and foot room, from 16/255 to 235/255 of `peak`."""
    return np.tensordot([[65.481, 128.553, 24.966]], rgb, 1) / 255 + 16 / 255 * peak
