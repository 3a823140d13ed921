"""The plane as a picture: real points, drawn points, and behind them what the judge makes of every place.

Blue is real and orange is drawn, in the points as in the judge's surface, so one legend reads both, also for people who
do not tell red from green. Drawn with numpy, each edge by the share of the pixel it covers: a run makes many of these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 480  # pixels of a panel
MARGIN = 20
HEAD = 44  # pixels of the line above a panel
PLACES = 64  # a surface is known on so many by so many places
BANDS = 11  # steps of colour on either side of undecided

REAL, DRAWN = (25, 84, 140), (206, 70, 0)
SAYS_DRAWN, UNDECIDED, SAYS_REAL = (250, 204, 160), (252, 252, 250), (150, 195, 230)
INK, FAINT, LINE = (32, 36, 42), (104, 111, 120), (70, 76, 86)


@dataclass(frozen=True)
class Window:
    """The square of the plane that a panel shows, in the units of the data: its lower left corner and its side."""

    left: float
    low: float
    side: float

    @classmethod
    def around(cls, points: np.ndarray, room: float = 0.15) -> "Window":
        """The square around points (N, 2), those that are finite, with a share of its extent free on every side."""
        points = points[np.isfinite(points).all(1)] if np.isfinite(points).all(1).any() else np.zeros((1, 2))
        points = points.astype(np.float64)  # an extent may be larger than float32 holds
        extent = max(float(np.ptp(points, axis=0).max()), 1e-3)
        side = extent * (1 + 2 * room)
        left, low = (points.min(0) + points.max(0)) / 2 - side / 2
        return cls(float(left), float(low), side)

    def places(self) -> np.ndarray:
        """The centres of `PLACES` × `PLACES` equal cells, row by row from above, float32 (PLACES², 2)."""
        steps = (np.arange(PLACES) + 0.5) / PLACES * self.side
        x, y = np.meshgrid(self.left + steps, self.low + steps[::-1])
        return np.stack([x, y], -1).reshape(-1, 2).astype(np.float32)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Where points (N, 2) lie on a panel, as (N, 2) of x and y downwards, in pixels."""
        across = (points - (self.left, self.low)) / self.side * SIDE
        return np.stack([across[:, 0], SIDE - across[:, 1]], 1)


def points(
    drawn: np.ndarray, real: np.ndarray | None = None, title: str = "", surface: np.ndarray | None = None
) -> Image.Image:
    """Drawn points (N, 2) over real ones, over the judge's surface if there is one, with a title and a legend.

    The axes are equal, and fixed by the real points where there are any. surface: as `panel` takes it.
    """
    window = Window.around(drawn if real is None else real)
    return framed([(title, panel(window, drawn, real, surface))], real is not None, surface is not None)


def panel(
    window: Window,
    drawn: np.ndarray,
    real: np.ndarray | None = None,
    surface: np.ndarray | None = None,
    arrows: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """A square of the plane, uint8 (SIDE, SIDE, 3).

    surface: how real the judge takes each of `window.places()` for, (PLACES²,) in [0, 1]; 0.5 is drawn as a line.
    arrows: points (N, 2) and the ways (N, 2) they are pulled; shown by their root, the longest a seventh of the side.
    """
    canvas = np.full((SIDE, SIDE, 3), UNDECIDED, np.uint8) if surface is None else _map(surface)
    if real is not None:
        _dots(canvas, window.pixels(real), 3.2, REAL, 0.5)
    _dots(canvas, window.pixels(drawn), 2.2, DRAWN, 0.7)
    return canvas if arrows is None else _arrows(canvas, window.pixels(arrows[0]), arrows[1] * (1, -1))


def framed(
    panels: Sequence[tuple[str, np.ndarray]], real: bool = True, judged: bool = True, note: str = ""
) -> Image.Image:
    """Panels two to a row, each below its title, with a legend: in the head of a single one, below several.

    note: a line beside the legend below several.
    """
    columns, legend = min(len(panels), 2), HEAD if len(panels) > 1 else 0
    rows = -(-len(panels) // columns)
    size = (columns * (SIDE + MARGIN) + MARGIN, rows * (HEAD + SIDE) + (legend or MARGIN))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for k, (title, picture) in enumerate(panels):
        x, y = MARGIN + k % columns * (SIDE + MARGIN), k // columns * (HEAD + SIDE)
        pen.text((x, y + HEAD / 2), title, INK, font(18), anchor="lm")
        sheet.paste(Image.fromarray(picture), (x, y + HEAD))
        pen.rectangle((x - 1, y + HEAD - 1, x + SIDE, y + HEAD + SIDE), outline=(205, 209, 214))
    if legend:
        pen.text((MARGIN, size[1] - HEAD / 2), note, FAINT, font(14), anchor="lm")
    _legend(sheet, size[1] - HEAD / 2 if legend else HEAD / 2, real, judged)
    return sheet


@cache
def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The one typeface of all pictures; it comes with Pillow and knows ASCII."""
    return ImageFont.load_default(size)


def _map(surface: np.ndarray) -> np.ndarray:
    """A surface as bands of colour, with a line where it is undecided.  (PLACES²,) -> uint8 (SIDE, SIDE, 3)"""
    padded = np.pad(surface.reshape(PLACES, PLACES).astype(np.float32), 1, mode="edge")
    down = padded[:-2] + 2 * padded[1:-1] + padded[2:]  # a binomial blur: what a judge says in bfloat16 is grainy
    coarse = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / 16
    down, across = np.gradient(coarse)
    slope = np.hypot(down, across) * (PLACES / SIDE)  # a pixel
    fine, slope = (_enlarged(x) for x in (coarse, slope))
    bands = Image.fromarray((fine * 254).round().clip(0, 254).astype(np.uint8))
    bands.putpalette(_colours().tobytes())
    picture = bands.convert("RGB")
    away = np.abs(fine - 0.5) / np.maximum(slope, 1e-7)  # pixels to the line, to first order
    picture.paste(LINE, mask=Image.fromarray(((1.2 - away).clip(0, 1) * (slope > 1e-6) * 200).astype(np.uint8)))
    return np.array(picture)


def _enlarged(coarse: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


@cache
def _colours() -> np.ndarray:
    """The colours of a surface's values in 255 steps, uint8 (255, 3): what is drawn, undecided, real.

    They go by the root of the distance from undecided, since a good generator leaves its judge little to decide.
    """
    sure = np.linspace(-1, 1, 255)
    shares = np.sign(sure) * np.ceil(np.sqrt(np.abs(sure)) * BANDS - 0.5) / BANDS
    ends = zip(SAYS_DRAWN, UNDECIDED, SAYS_REAL, strict=True)
    return np.stack([np.interp(shares, (-1, 0, 1), channel) for channel in ends], 1).round().astype(np.uint8)


def _dots(canvas: np.ndarray, centres: np.ndarray, radius: float, colour: tuple[int, int, int], opacity: float) -> None:
    """Paint discs onto a canvas, uint8 (H, W, 3); lying over each other they are as dense as so many layers."""
    height, width = canvas.shape[:2]
    reach = int(np.ceil(radius))
    near = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2), -1).reshape(1, -1, 2)
    centres = centres[((centres > -reach) & (centres < (width + reach, height + reach))).all(1)]
    pixels = np.floor(centres).astype(int)[:, None] + near  # (N, around, 2)
    away = np.hypot(*np.moveaxis(pixels + 0.5 - centres[:, None], -1, 0))
    cover = (radius + 0.5 - away).clip(0, 1) * opacity
    x, y = pixels[..., 0], pixels[..., 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (cover > 0)
    through = np.bincount((y * width + x)[inside], np.log1p(-cover[inside]), height * width)  # log of what shines
    touched = np.flatnonzero(through)
    flat = canvas.reshape(-1, 3)
    flat[touched] = (colour + np.exp(through[touched])[:, None] * (flat[touched] - np.asarray(colour, float))).round()


def _arrows(canvas: np.ndarray, feet: np.ndarray, ways: np.ndarray, scale: int = 4) -> np.ndarray:
    """Paint arrows from pixels `feet` (N, 2) along `ways` (N, 2), smoothed by drawing them larger."""
    lengths = np.hypot(*ways.T)
    if not lengths.max(initial=0.0) > 0:
        return canvas
    ways = ways * (SIDE / 7 / np.sqrt(np.maximum(lengths, 1e-30) * lengths.max()))[:, None]
    mask = Image.new("L", (SIDE * scale, SIDE * scale))
    pen = ImageDraw.Draw(mask)
    for foot, way in zip(feet, ways, strict=True):
        length = float(np.hypot(*way))
        if length < 3:
            continue
        tip, head = foot + way, min(9.0, length / 2)
        ahead = way / length * head
        aside = ahead[::-1] * (-0.45, 0.45)
        neck = tip - ahead
        pen.line([*(foot * scale), *(neck * scale)], 255, round(1.6 * scale))
        pen.polygon([*(tip * scale), *((neck + aside) * scale), *((neck - aside) * scale)], 255)
    picture = Image.fromarray(canvas)
    picture.paste(INK, mask=mask.resize(picture.size, Image.Resampling.BOX))
    return np.array(picture)


def _legend(sheet: Image.Image, y: float, real: bool, judged: bool) -> None:
    """Write from the right what the colours mean, on the line y."""
    pen = ImageDraw.Draw(sheet)
    x = float(sheet.width - MARGIN)

    def word(text: str) -> None:
        nonlocal x
        x -= pen.textlength(text, font(14))
        pen.text((x, y), text, FAINT, font(14), anchor="lm")

    if judged:
        word("real")
        bar = Image.fromarray(_colours()[None]).resize((80, 12), Image.Resampling.NEAREST)
        x -= bar.width + 6
        sheet.paste(bar, (round(x), round(y) - 6))
        x -= 6
        word("judge says drawn")
        x -= MARGIN
    for text, colour in (("drawn", DRAWN), *([("real", REAL)] if real else [])):
        word(text)
        x -= 16
        dot = np.array(sheet.crop((round(x), round(y) - 7, round(x) + 14, round(y) + 7)))
        _dots(dot, np.array([[7.0, 7.0]]), 4.5, colour, 0.999)
        sheet.paste(Image.fromarray(dot), (round(x), round(y) - 7))
        x -= MARGIN / 2
