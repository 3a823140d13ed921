"""Images as one picture: a grid, with a name at each row if there are any."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from elegan.view.plane import font

SMALL = 64  # images below this side are shown twice as large
MARGIN = 2


def sheet(images: np.ndarray, columns: int | None = None, names: Sequence[str] = ()) -> Image.Image:
    """A grid of uint8 images (N, C, H, W) with 1, 3 or 4 channels, in reading order on white; names: one a row."""
    n, channels, height, width = images.shape
    scale = 2 if max(height, width) < SMALL else 1
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    height, width = height * scale, width * scale
    columns = columns or math.ceil(math.sqrt(n * height / width))
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + MARGIN) + MARGIN, columns * (width + MARGIN) + MARGIN, channels), 255, np.uint8)
    for k, picture in enumerate(images):
        y, x = (k // columns) * (height + MARGIN) + MARGIN, (k % columns) * (width + MARGIN) + MARGIN
        canvas[y : y + height, x : x + width] = picture.transpose(1, 2, 0)
    grid = image(canvas.transpose(2, 0, 1))
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


def image(picture: np.ndarray) -> Image.Image:
    """One uint8 image (C, H, W); other than 1, 3 or 4 channels show their first."""
    if len(picture) not in (3, 4):
        return Image.fromarray(picture[0])
    return Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))
