"""Images as one picture: a grid, with a name at each row if there are any.

Alpha is shown over a chequered ground. Of bands whose meaning is not known, two show the first, four or more the first
three as red, green and blue.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from elegan.view.plane import font

SMALL = 64  # images below this side are shown twice as large
MARGIN = 2
SQUARE, LIGHT, DARK = 8, 255, 204  # of the chequered ground: pixels, levels


def sheet(images: np.ndarray, columns: int | None = None, names: Sequence[str] = (), *, mode: str = "") -> Image.Image:
    """A grid of uint8 images (N, C, H, W) in reading order on white, as L or RGB.

    names: one a row. mode: what the channels are (L, LA, RGB, RGBA), or nothing if that is not known.
    """
    scale = 2 if max(images.shape[2:]) < SMALL else 1
    images = seen(images.repeat(scale, axis=2).repeat(scale, axis=3), mode)
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n * height / width))
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + MARGIN) + MARGIN, columns * (width + MARGIN) + MARGIN, channels), 255, np.uint8)
    for k, picture in enumerate(images):
        y, x = (k // columns) * (height + MARGIN) + MARGIN, (k % columns) * (width + MARGIN) + MARGIN
        canvas[y : y + height, x : x + width] = picture.transpose(1, 2, 0)
    grid = Image.fromarray(canvas[..., 0] if channels == 1 else canvas)
    return _named(grid, names, height + MARGIN) if names else grid


def _named(grid: Image.Image, names: Sequence[str], height: int) -> Image.Image:
    """A grid with a name in front of each of its rows, which are `height` apart."""
    letters = font(min(max(height // 3, 10), 22))
    gap = 8
    pen = ImageDraw.Draw(grid)
    room = math.ceil(max(pen.textlength(name, letters) for name in names)) + 2 * gap
    wide = Image.new(grid.mode, (grid.width + room, grid.height), "white")
    wide.paste(grid, (room, 0))
    pen = ImageDraw.Draw(wide)
    for k, name in enumerate(names):
        pen.text((room - gap, MARGIN + (k + 0.5) * height), name, "black", letters, anchor="rm")
    return wide


def image(picture: np.ndarray, mode: str = "") -> Image.Image:
    """One uint8 image (C, H, W) as L or RGB; see `sheet`."""
    shown = seen(picture[None], mode)[0]
    return Image.fromarray(shown[0] if len(shown) == 1 else np.ascontiguousarray(shown.transpose(1, 2, 0)))


def seen(images: np.ndarray, mode: str = "") -> np.ndarray:
    """uint8 images (N, C, H, W) as eyes see them: (N, 1 or 3, H, W)."""
    if mode in ("LA", "RGBA"):
        y, x = np.indices(images.shape[2:]) // SQUARE
        ground = np.where((y + x) % 2, DARK, LIGHT)
        colours, opacity = images[:, :-1].astype(np.float32), images[:, -1:] / np.float32(255)
        return np.rint(ground + (colours - ground) * opacity).astype(np.uint8)
    return images[:, : 1 if images.shape[1] < 3 else 3]
