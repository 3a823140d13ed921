"""What one look at an image keeps of it: its header, its light, its contrast, how sharp it is, a thumbnail, a hash.

An image is decoded once, brought to about `SIDE` pixels on its longer side, and forgotten. So a million images take
about a gigabyte of a temporary file, and hardly any memory.
"""

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, BinaryIO

import numpy as np

from elegan.data.curation.hashes import SIDE as THUMB
from elegan.data.curation.hashes import dct_hash
from elegan.data.listing import Decoder, Layout
from elegan.data.readers.picture import GREY, TOPS
from elegan.spec import Field

SIDE = 128  # pixels of the longer side of an image that is looked at, or up to twice as many
LARGE = 6  # times as many are not decoded in full
FLAT = 1e-3  # contrast below which neither sharpness nor hash means anything

GLANCE = np.dtype([
    ("look", "i4"),  # which of the headers that were found
    ("width", "i4"), ("height", "i4"), ("format", "S8"), ("mode", "S8"), ("turn", "u1"),
    ("whole", "?"),  # read as a training reads it: the digest is that of its very row
    ("bands", "i4"),  # of colour
    ("mean", "f4", 3), ("square", "f4", 3),  # of the first of them, in [0, 1], and of their squares
    ("brightness", "f4"), ("contrast", "f4"),  # mean and standard deviation of grey in [0, 1]
    ("sharpness", "f4"),  # log10 of the variance of the Laplacian of grey over the variance of grey; NaN if flat
    ("entropy", "f4"),  # of the 256 levels of grey, in bits
    ("thumb", "u1", (THUMB, THUMB)), ("hash", "u8"), ("digest", "u8", 4),
])  # fmt: skip


def glances(rows: np.ndarray, *, colours: int, span: tuple[float, float] | None = None) -> np.ndarray:
    """`GLANCE` (N,) of images (N, C, H, W); what only headers say is left 0.

    colours: the bands that are no alpha. span: the least and the greatest value of floats; without it, those of [0, 1],
    [-1, 1] or the image itself.
    """
    made = np.zeros(len(rows), GLANCE)
    made["digest"] = [digest(row) for row in rows]
    shares = in_shares(reduced(rows), span)
    bands = shares[:, : min(colours, 3)]
    made["bands"] = colours
    made["mean"][:, : bands.shape[1]] = bands.mean((2, 3))
    made["square"][:, : bands.shape[1]] = (bands**2).mean((2, 3))
    weights = GREY.astype(np.float32) if colours == 3 else np.full(colours, 1 / colours, np.float32)
    grey = np.tensordot(weights, shares[:, :colours], (0, 1))  # (N, H, W)
    made["brightness"] = grey.mean((1, 2))
    made["contrast"] = grey.std((1, 2))
    made["sharpness"] = _sharpness(grey, made["contrast"])
    levels = (grey * 255 + 0.5).astype(np.uint8).reshape(len(grey), -1)
    counts = np.stack([np.bincount(row, minlength=256) for row in levels]) / levels.shape[1]
    made["entropy"] = (counts * -np.log2(counts, where=counts > 0, out=np.zeros_like(counts))).sum(1)
    down, across = _boxes(grey.shape[1], THUMB), _boxes(grey.shape[2], THUMB)
    made["thumb"] = np.rint(down @ grey @ across.T * 255)
    made["hash"] = dct_hash(made["thumb"])
    return made


def digest(row: np.ndarray) -> np.ndarray:
    """uint64 (4,): SHA-256 of the values of a row, its shape and its type."""
    found = hashlib.sha256(f"{row.dtype.str} {row.shape}".encode())
    found.update(np.ascontiguousarray(row).data)
    return np.frombuffer(found.digest(), np.uint64)


def in_shares(rows: np.ndarray, span: tuple[float, float] | None = None) -> np.ndarray:
    """Images of any type as float32 in [0, 1]; see `glances`."""
    if rows.dtype != np.float32:
        return rows.astype(np.float32) / np.float32(TOPS[str(rows.dtype)])
    low, high = span or (float(rows.min()), float(rows.max()))
    if span is None and low >= -1 and high <= 1:
        low, high = (0.0, 1.0) if low >= 0 else (-1.0, 1.0)
    return ((rows - low) / max(high - low, 1e-12)).clip(0, 1)


def reduced(rows: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) with a side of twice `SIDE` or more: the means of k x k pixels, in their own type."""
    k = max(rows.shape[2:]) // SIDE
    if k < 2:
        return rows
    height, width = (side // k * k for side in rows.shape[2:])
    if not (height and width):  # a strip thinner than a box
        return rows[:, :, ::k, ::k]
    total = np.zeros((*rows.shape[:2], height // k, width // k), np.float32)
    for y in range(k):
        for x in range(k):
            total += rows[:, :, y:height:k, x:width:k]
    total /= k * k
    return total if rows.dtype == np.float32 else np.rint(total).astype(rows.dtype)


def _sharpness(grey: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    if min(grey.shape[1:]) < 3:
        return np.full(len(grey), np.nan, np.float32)
    inner = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
    share = laplacian.var((1, 2)) / np.maximum(contrast, FLAT) ** 2
    return np.where(contrast < FLAT, np.nan, np.log10(share + 1e-9))


@cache
def _boxes(n: int, m: int) -> np.ndarray:
    """float32 (m, n): means over m boxes of equal width of n pixels; one that two share counts in both by its part."""
    edges, pixels = np.arange(m + 1) * n / m, np.arange(n)
    part = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (part.clip(0) * m / n).astype(np.float32)


@dataclass(frozen=True)
class Glance:
    """A decoder of images whose rows are glances; `looks` collects the different headers, numbered as they come."""

    decoder: Decoder
    looks: dict[Any, int] = field(default_factory=dict, compare=False)
    kind = "image"
    version = 1
    _lock: Any = field(default_factory=threading.Lock, compare=False, repr=False)

    def look(self, files: Sequence[BinaryIO]) -> Any:
        return self.decoder.look(files)

    def settle(self, looks: Sequence[tuple[str, Any]], *, name: str) -> Layout:
        """Of glances."""
        return Layout((GLANCE.itemsize,), "uint8")

    def read(self, files: Sequence[BinaryIO], layout: Layout) -> np.ndarray:
        """`GLANCE` () of an image. Errors: as those of the decoder; `ValueError` if it alone cannot be read so."""
        row, look, colours, whole = self.picture(files)
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            raise ValueError("there are values that are not finite")
        made = glances(row[None], colours=colours)[0]
        with self._lock:
            made["look"] = self.looks.setdefault(look, len(self.looks))
        files[0].seek(0)
        made["format"], made["mode"], made["turn"] = _container(files[0])
        made["width"], made["height"] = _size(look, row)
        made["whole"] = whole
        return np.array(made)

    def picture(self, files: Sequence[BinaryIO]) -> tuple[np.ndarray, Any, int, bool]:
        """An image on its own: (C, H, W), its header, its bands without alpha, and whether a training reads it so."""
        look = self.decoder.look(files)
        for file in files:
            file.seek(0)
        small = _smaller(self.decoder, look)
        layout = small.settle([("", look)], name="")
        row = small.read(files, layout)
        return row, look, len(row) - str(layout.about.get("mode", "")).endswith("A"), small is self.decoder

    def field(self, layout: Layout, low: float, high: float) -> Field:
        raise NotImplementedError("glances are no field of a batch")


def _smaller(decoder: Decoder, look: Any) -> Decoder:
    """A decoder of pictures for one with such a header: in the form that is asked for, but not above `SIDE`; of a large
    one in a smaller size, so that JPEGs are not decoded in full."""
    form, (width, height) = getattr(decoder, "form", None), _size(look, None)
    if form is None or not width:
        return decoder
    height, width = form.pixels or (height, width)
    scale = max(height, width) / SIDE
    if scale <= (1 if form.pixels else LARGE):
        return decoder
    size = f"{max(1, round(width / scale))}x{max(1, round(height / scale))}"
    fitted = replace(form, size=size, fit=form.fit if form.pixels else "stretch")
    return replace(decoder, form=fitted)  # pyright: ignore[reportArgumentType]  # a record


def _size(look: Any, row: np.ndarray | None) -> tuple[int, int]:
    """Width and height as a header has them, else those of the row."""
    height, width = (0, 0) if row is None else row.shape[1:]
    return getattr(look, "width", width), getattr(look, "height", height)


def _container(file: BinaryIO) -> tuple[str, str, int]:
    """Format, mode and EXIF orientation of an image file in Pillow's words; of what it does not know, nothing."""
    from PIL import Image

    from elegan.data.readers.picture import FORMATS, ORIENTATION

    try:
        image = Image.open(file, formats=FORMATS)
        turn = Image.Image.getexif(image).get(ORIENTATION, 1)  # that of PNG would decode the image
    except Exception:  # what decoders raise on what they do not know; the image itself has been read
        return "", "", 1
    return image.format or "", image.mode, turn if turn in range(1, 9) else 1
