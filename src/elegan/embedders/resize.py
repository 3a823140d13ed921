"""The one resize of images that are to be measured: bicubic, antialiased, in floating point.

How images are resized moves a Fréchet distance more than what is measured does (Parmar, Zhang and Zhu, 2022,
arXiv:2104.11222): one that does not average before it samples, or rounds to whole levels, leaves marks of its own.
"""

import numpy as np
from PIL import Image

ABOUT = "bicubic, antialiased (Pillow, float)"


def resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (N, C, H, W) -> float32 (N, C, height, width) in [0, 255], each plane by itself, never rounded to levels.

    Overshoot is clipped. Images of that size already are only converted. The aspect is not kept.
    """
    if images.shape[2:] == (height, width):
        return images.astype(np.float32)
    resized = np.empty((*images.shape[:2], height, width), np.float32)
    for planes, into in zip(images.astype(np.float32), resized, strict=True):
        for plane, fitted in zip(planes, into, strict=True):
            fitted[:] = np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))
    return resized.clip(0, 255, out=resized)
