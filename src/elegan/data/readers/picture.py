"""One image file -> uint8 pixels, upright, by rules that are stated and never clip.

png, jpg, webp, bmp, tif, and the first frame of gif. EXIF orientation is applied. Grey stays grey (1 bit, 8 bits, grey
with alpha); 16-bit grey is divided by 257; float grey must lie in [0, 1]; CMYK, palettes and all else become RGB.
Alpha is laid on white.
"""

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # no other decoder is tried, whatever a file is called
PIXELS = 1 << 26  # more than this in one image is taken for a decompression bomb


def read(path: Path, size: int | None = None) -> np.ndarray:
    """The pixels of a file: uint8 (H, W) if it is grey, else (H, W, 3).

    size: side of the square it is resized and cropped to.
    Errors: whatever the decoder raises on damaged bytes; `ValueError` if the image is empty, too large, or has no
        stated range.
    """
    from PIL import Image, ImageOps

    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    with path.open("rb") as file, _open(file) as image:
        width, height = image.size
        if width * height > PIXELS:
            raise ValueError(f"{width}x{height} is more than {PIXELS:,} pixels")
        if image.mode == "I" and image.format != "PNG":
            raise ValueError("32-bit integers have no stated range")
        pixels = _eight_bits(ImageOps.exif_transpose(image))
    if size is None or pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(_fit(Image.fromarray(pixels), size))


def _open(file: BinaryIO) -> "Image":
    """An image whose header is read. Not by its path: Pillow maps what has one, and scrambles turned TIFFs."""
    from PIL import Image, UnidentifiedImageError

    Image.init()  # else `formats` knows only the decoders that happen to be loaded
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError("it is no image of a known format") from error


def resize(rows: np.ndarray, size: int) -> np.ndarray:
    """uint8 (N, C, H, W) -> (N, C, size, size): the shorter side is resized with antialias, the centre is cut out."""
    from PIL import Image

    resized = np.empty((*rows.shape[:2], size, size), np.uint8)
    for before, after in zip(rows, resized, strict=True):
        for plane, fitted in zip(before, after, strict=True):
            fitted[:] = np.asarray(_fit(Image.fromarray(plane), size))
    return resized


def _fit(image: "Image", size: int) -> "Image":
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)


def _eight_bits(image: "Image") -> np.ndarray:
    """An upright image of any mode -> uint8 (H, W) or (H, W, 3)."""
    from PIL import Image

    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # also false of NaN
            raise ValueError("float pixels must lie in [0, 1]")
        return np.rint(values * 255).astype(np.uint8)
    if image.mode.startswith("I"):  # 16 bits: 65535 / 257 = 255
        return np.rint(np.asarray(image) / 257).astype(np.uint8)
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), seen).convert("RGB")
    return np.array(image.convert("L" if grey else "RGB"))
