"""`pixels`, of vectors `values`: the values themselves, so that every data set can be measured without a network.

Distances between images say how alike they are dot by dot, not in what they show: a last resort for images, and the
natural choice for vectors.

    features, _ = Pixels((3, 64, 64)).embed(images)  # uint8 (N, 3, 64, 64) -> float32 (N, 3072) in [0, 1]
"""

import math

import numpy as np

from elegan.embedders.contract import Embedded
from elegan.errors import DataError, OptionError

SIDE = 32  # pixels that an image keeps each way, at most
BLOCK = 256  # images at a time


class Pixels:
    """Images (C, H, W) in [0, 1], flattened, larger ones first averaged in boxes down to 32x32; vectors as they are.

    shape: of one sample; three sizes are an image.
    Errors: `OptionError` if a size is free, so that samples would not be comparable.
    """

    sha256 = ""

    def __init__(self, shape: tuple[int, ...]):
        if not shape or not all(shape):
            raise OptionError(f"pixels compares samples of one size, not of {shape}: use another --embedder")
        self.shape = shape
        self.name = "pixels" if len(shape) == 3 else "values"
        self._boxes = [_boxes(side, min(side, SIDE)) for side in shape[1:]] if len(shape) == 3 else []
        small = (shape[0], *(len(boxes) for boxes in self._boxes)) if self._boxes else shape
        self.features = math.prod(small)
        self.about = "values as they are"
        if self._boxes:
            means = "" if small == shape else f", means over boxes of {shape[1]}x{shape[2]}"
            self.about = f"pixels in [0, 1], {small[1]}x{small[2]}{means}"

    def embed(self, images: np.ndarray) -> Embedded:
        """Features (N, d) float32 of uint8 images (N, C, H, W), or of floats (N, …) where samples are no images.

        Errors: `DataError` for another shape or type, or values that are not finite.
        """
        fits = images.dtype == np.uint8 if self._boxes else images.dtype.kind == "f"
        if images.shape[1:] != self.shape or not fits:
            wanted = "uint8 images" if self._boxes else "floats"
            raise DataError(
                f"pixels measures {wanted} of shape {self.shape}, not {images.dtype} of {images.shape[1:]}."
            )
        if not self._boxes:
            if not np.isfinite(images).all():
                raise DataError("pixels measures finite values: some are NaN or infinite.")
            return Embedded(images.reshape(len(images), -1).astype(np.float32), None)
        features = np.empty((len(images), self.features), np.float32)
        down, across = self._boxes
        for start in range(0, len(images), BLOCK):
            block = images[start : start + BLOCK] / np.float32(255)  # (B, C, H, W)
            features[start : start + BLOCK] = (down @ block @ across.T).reshape(len(block), -1)
        return Embedded(features, None)


def _boxes(n: int, m: int) -> np.ndarray:
    """float32 (m, n): the means over m boxes of equal width; a pixel that two share counts in both by its part."""
    edges = np.arange(m + 1) * n / m
    pixels = np.arange(n)
    part = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (part.clip(0) * m / n).astype(np.float32)
