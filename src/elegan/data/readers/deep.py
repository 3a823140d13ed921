"""Pixels that Pillow would reduce to 8 bits without a word, or cannot open, as they are: by imagecodecs and tifffile.

PNG     16 bits of RGB, of colour or grey with alpha.
TIFF    the first page of: 9 to 16 bits a band (fewer than 16 are stretched to fill them), floats of 16, 32 and 64 bits,
        any number of bands, interleaved or in planes. White may be zero; alpha may be multiplied in and is divided out.
        A fourth band without a meaning is alpha only if the file says so, or says nothing at all; CMYK of 16 bits
        becomes RGB.
"""

import logging
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np

PNG = b"\x89PNG\r\n\x1a\n"
INSTALLED = find_spec("imagecodecs") is not None and find_spec("tifffile") is not None
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5
OF_PILLOW = (RGB, PALETTE, CMYK, 6, 8)  # colours that it reads in 8 bits: 6 is YCbCr, 8 Lab
UNSIGNED, FLOAT = 1, 3
FLOATS = (16, 32, 64)
NO_ALPHA, PREMULTIPLIED, STRAIGHT = 0, 1, 2


@dataclass(frozen=True)
class Head:
    """What a header says of such an image: its stored size, channels of colour, kind of alpha, EXIF orientation, the
    bits of a band and the type (of numpy) its rows have, what the colours are, and whether it is a PNG."""

    width: int
    height: int
    colours: int
    alpha: int
    orientation: int
    bits: int
    dtype: str
    photometric: int
    png: bool = False


def png(file: BinaryIO, *, alpha: bool) -> Head | None:
    """The head of a PNG that Pillow reduces; None of any other file. alpha: whether it has any, also by one colour."""
    file.seek(0)
    start = file.read(26)  # signature, then IHDR: length, name, width, height, depth, colour type
    if not start.startswith(PNG) or start[24] != 16 or start[25] not in (2, 4, 6):
        return None
    width, height = (int.from_bytes(start[k : k + 4], "big") for k in (16, 20))
    colours = 1 if start[25] == 4 else 3
    return Head(width, height, colours, STRAIGHT if alpha else NO_ALPHA, 1, 16, "uint16", RGB, png=True)


def tiff(file: BinaryIO) -> Head | None:
    """The head of a TIFF that Pillow reduces or cannot open; None of any other file.

    Errors: `ValueError` of numbers that have no stated range or meaning; whatever Pillow raises on damaged tags.
    """
    tags = _tags(file)
    if tags is None:
        return None
    bits, photometric = tags.get(258, (1,)), tags.get(262, WHITE_IS_ZERO)
    samples, kinds, extra = tags.get(277, 1), tags.get(339, (1,)), tags.get(338, ())
    depth, kind = bits[0], kinds[0]
    if len({*bits}) > 1 or len({*kinds}) > 1:
        raise ValueError("its bands are of different types")
    if not {len(bits), len(kinds)} <= {1, samples}:
        raise ValueError("its tags are damaged")
    if kind not in (UNSIGNED, FLOAT) or (kind == UNSIGNED and depth > 16):
        what = f"{depth}-bit integers" if kind == UNSIGNED else "signed integers" if kind == 2 else "complex numbers"
        raise ValueError(f"{what} have no stated range")
    if kind == FLOAT and depth not in FLOATS:
        raise ValueError(f"floats of {depth} bits are not read")
    alpha = _alpha(samples, photometric, extra)
    colours = samples - (alpha != NO_ALPHA)
    normal = colours == {PALETTE: 1, CMYK: 4}.get(photometric, 3 if photometric in OF_PILLOW else 1)
    if kind == UNSIGNED and depth <= 8 and normal and (photometric != BLACK_IS_ZERO or alpha != PREMULTIPLIED):
        return None
    if photometric == BLACK_IS_ZERO and samples == 1 and (kind, depth) in ((UNSIGNED, 16), (FLOAT, 32)):
        return None
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB) and (photometric, samples, depth) != (CMYK, 4, 16):
        raise ValueError(f"{samples} bands of {depth} bits in colour space {photometric} of TIFF are not read")
    if photometric == CMYK:
        colours, alpha = 3, NO_ALPHA
    dtype = "float32" if kind == FLOAT else "uint8" if depth <= 8 else "uint16"
    turn = tags.get(274, 1)
    return Head(tags[256], tags[257], colours, alpha, turn, depth, dtype, photometric)


def _alpha(samples: int, photometric: int, extra: Any) -> int:
    """Which alpha the last of some samples is, of grey or RGB with one more."""
    if (samples, photometric) not in ((2, WHITE_IS_ZERO), (2, BLACK_IS_ZERO), (4, RGB), (2, PALETTE)):
        return NO_ALPHA
    if not extra:
        return STRAIGHT if samples == 4 else NO_ALPHA
    return {1: PREMULTIPLIED, 2: STRAIGHT, 999: STRAIGHT}.get(extra[0], NO_ALPHA)  # 999: Corel's own


def _tags(file: BinaryIO) -> Any:
    """The tags of the first page of a TIFF, checked to be numbers where they must be; None of any other file."""
    from PIL.TiffImagePlugin import PREFIXES, ImageFileDirectory_v2

    file.seek(0)
    start = file.read(8)
    if start[:4] not in PREFIXES:
        return None
    if 43 in start[2:4]:  # BigTIFF
        start += file.read(8)
    tags = ImageFileDirectory_v2(start)
    file.seek(tags.next)
    tags.load(file)
    wanted = {256: int, 257: int, 258: tuple, 262: int, 274: int, 277: int, 338: tuple, 339: tuple}
    if not {256, 257} <= tags.keys() or any(not isinstance(tags[t], k) for t, k in wanted.items() if t in tags):
        raise ValueError("its tags are damaged")
    return tags


def read(file: BinaryIO, head: Head) -> np.ndarray:
    """The pixels of an image with such a head, (H, W, C) as they are stored, of the type of the head; alpha is last.

    Errors: `ValueError` without the extra `images`; whatever the libraries raise on damaged bytes.
    """
    if not INSTALLED:
        raise ValueError('this needs pip install "elegan[images]"')
    file.seek(0)
    if head.png:
        import imagecodecs

        pixels = np.asarray(imagecodecs.png_decode(file.read())).reshape(head.height, head.width, -1)
    else:
        with _tifffile().TiffFile(file) as pages:
            page = pages.pages.first
            if page.imagedepth != 1:
                raise ValueError("a volume is no image")
            if not all(page.databytecounts):
                raise ValueError("parts of its pixels are missing")
            pixels = page.asarray(squeeze=False, maxworkers=1)[:, 0]  # (planes, H, W, samples)
            pixels = np.moveaxis(pixels, 0, -2).reshape(*pixels.shape[1:3], -1)
        pixels = _meant(pixels, head)
    if pixels.shape != (head.height, head.width, head.colours + bool(head.alpha)):
        raise ValueError("its pixels are not what its header says")
    return pixels


def _meant(pixels: np.ndarray, head: Head) -> np.ndarray:
    """Bands as stored in a TIFF -> what they mean: black is zero, all bits are filled, alpha is not multiplied in."""
    if head.dtype == "float32":
        with np.errstate(over="ignore"):
            pixels = pixels.astype(np.float32)
    elif head.bits not in (8, 16):
        top = np.iinfo(head.dtype).max
        pixels = np.rint(pixels * (top / (2**head.bits - 1))).astype(head.dtype)
    top = 1.0 if head.dtype == "float32" else np.iinfo(pixels.dtype).max
    if head.photometric == WHITE_IS_ZERO and head.dtype != "float32":
        pixels[..., : head.colours] = top - pixels[..., : head.colours]
    if head.photometric == CMYK:
        ink = pixels / np.float64(top)
        return np.rint((1 - ink[..., :3]) * (1 - ink[..., 3:]) * top).astype(pixels.dtype)
    if head.alpha == PREMULTIPLIED:
        opacity = pixels[..., -1:] / np.float64(top)
        colours = np.divide(pixels[..., :-1], opacity, out=np.zeros(pixels[..., :-1].shape), where=opacity > 0)
        pixels[..., :-1] = colours if head.dtype == "float32" else np.rint(colours).clip(0, top)
    return pixels


@cache
def _tifffile() -> Any:
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it says of odd tags belongs on no terminal
    return tifffile
