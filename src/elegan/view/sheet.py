"""Samples as one picture: a grid of images, or drawn points over real ones."""

import io
import math

import numpy as np
from PIL import Image

SMALL = 64  # images below this side are shown twice as large
MARGIN = 2


def sheet(images: np.ndarray, columns: int | None = None) -> Image.Image:
    """A grid of uint8 images (N, C, H, W) with 1, 3 or 4 channels, in reading order on white."""
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
    return image(canvas.transpose(2, 0, 1))


def image(picture: np.ndarray) -> Image.Image:
    """One uint8 image (C, H, W); other than 1, 3 or 4 channels show their first."""
    if len(picture) not in (3, 4):
        return Image.fromarray(picture[0])
    return Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))


def points(drawn: np.ndarray, real: np.ndarray | None = None, title: str = "") -> Image.Image:
    """Drawn points (N, 2) over real ones, on equal axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if real is not None:
        axes.scatter(real[:, 0], real[:, 1], s=5, color="#9aa0a6", alpha=0.6, linewidths=0, label="real")
        spread = max(float(np.ptp(real, axis=0).max()), 1e-3) * 0.65
        middle = (real.min(0) + real.max(0)) / 2
        axes.set_xlim(middle[0] - spread, middle[0] + spread)
        axes.set_ylim(middle[1] - spread, middle[1] + spread)
    axes.scatter(drawn[:, 0], drawn[:, 1], s=5, color="#d9480f", alpha=0.7, linewidths=0, label="drawn")
    axes.set_aspect("equal")
    axes.legend(loc="upper right", frameon=False, markerscale=3)
    axes.set_title(title, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).copy()
