"""What a lab trains on: a setup's data as a `Source`, and the distribution behind it where that is known.

Presets are opened as the command line opens them. Whatever else is made here gets the spec that its points have when
they are opened from a .npy file, so that a run that is saved with such a file goes on the same.
"""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import RandomState

from elegan.data.readers import arrays, toys
from elegan.data.source import Source
from elegan.data.sources import open_data
from elegan.errors import DataError, nearest
from elegan.studio.lab.formula import evaluate
from elegan.studio.setup import MOST_SAMPLES, Csv, Data, Drawn, Equation, Preset

FARTHEST = 1e15  # of a coordinate: squares of what lies farther are no numbers of a network's
LEAST, MOST = 10, 100_000  # rows of points that are given
FINITE = 0.99  # of a formula's rows, at least
SEED = 3_000  # of points that are drawn or computed: the same data gives the same points, whatever the lab's seed
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)


@dataclass(frozen=True)
class Points:
    """Points in the plane. bundled: `source` is what the command line opens by the same name, whole.

    modes: centres of equal Gaussians of deviation `sigma` that the points are drawn from, (M, 2), if they are.
    toy: the name of the house's distribution they come from, if they do. counted: modes that one may count.
    """

    source: Source
    bundled: bool = False
    modes: np.ndarray | None = None
    sigma: float = 0.0
    toy: str = ""
    counted: bool = False


def read(data: Data) -> Points:
    """The points of a setup's data. Raises `DataError` in one sentence if there are none."""
    match data:
        case Preset():
            return _preset(data)
        case Drawn():
            return _drawn(data)
        case Csv():
            return _csv(data.text)
        case Equation():
            return _equation(data)


def plane(points: np.ndarray, name: str, about: str) -> Source:
    """The source of points (N, 2) with the spec of a .npy file of them."""
    points = np.ascontiguousarray(points, np.float32)
    return replace(arrays.of_rows(points, None, Path(name), "real", name=name), about=about)


def _preset(data: Preset) -> Points:
    if data.name not in toys.ABOUT:
        raise DataError(f"no data in the plane is named {data.name!r}.{nearest(data.name, toys.ABOUT)}")
    source = open_data(data.name)
    whole = data.samples >= min(len(source), MOST_SAMPLES)
    if not whole:
        about = source.about.replace(f"{len(source):,}", f"{data.samples:,}", 1)
        source = plane(source.arrays["real"][: data.samples], data.name, about)
    if data.name not in toys.MODES:
        return Points(source, whole, toy=data.name)
    modes, sigma = toys.MODES[data.name]
    return Points(source, whole, np.array(modes, np.float64), sigma, data.name, counted=True)


def _drawn(data: Drawn) -> Points:
    draw, centres = RandomState(SEED), np.array(data.points, np.float64)
    points = centres[draw.randint(len(centres), size=data.samples)] + data.spread * draw.randn(data.samples, 2)
    about = f"{data.samples:,} points around {len(centres):,} places drawn by hand, deviation {data.spread:g}"
    return Points(plane(points, "drawn", about), modes=centres, sigma=data.spread)


def _equation(data: Equation) -> Points:
    draw = RandomState(SEED)
    values = {"t": draw.rand(data.samples), "s": draw.rand(data.samples), "g": draw.randn(data.samples)}
    blur = data.spread * draw.randn(data.samples, 2)
    formulas = {"x": data.x, "y": data.y}
    points = np.stack([evaluate(name, text, values) for name, text in formulas.items()], 1)
    finite = (np.abs(points) <= FARTHEST).all(1)
    if finite.mean() < FINITE or finite.sum() < LEAST:
        name = next((n for n, column in zip("xy", points.T, strict=True) if np.isfinite(column).mean() < 1), "x")
        share = f"{finite.mean():.0%} of the rows"
        raise DataError(f"the formula {name} = {formulas[name]!r} has a finite value for only {share}: it needs 99%.")
    points = points[finite]
    if not np.ptp(points, axis=0).any():
        raise DataError(f"x = {data.x!r} and y = {data.y!r} are always the same point: let them depend on t, s or g.")
    about = f"{len(points):,} points of x = {data.x}, y = {data.y}"
    return Points(plane(points + blur[finite], "equation", about))


def _csv(text: str) -> Points:
    rows = list(itertools.islice(_rows(text), MOST + 1))
    if len(rows) > MOST:
        raise DataError(f"the text holds more than {MOST:,} rows: leave some out.")
    points = np.array(rows, np.float64).reshape(-1, 2)
    finite = (np.abs(points) <= FARTHEST).all(1)
    if finite.sum() < LEAST:
        raise DataError(f"the text holds {finite.sum()} rows of two finite numbers: give {LEAST} or more.")
    points = points[finite]
    if not np.ptp(points, axis=0).any():
        raise DataError("all rows of the text are the same point: give points that differ.")
    left_out = f", {(~finite).sum():,} without finite numbers left out" if not finite.all() else ""
    return Points(plane(points, "points", f"{len(points):,} points of a text{left_out}"))


def _rows(text: str) -> Iterator[tuple[float, float]]:
    """The first two columns of numbers, row by row. Raises `DataError` with the line that has none."""
    columns: list[int] = []
    first, mark = True, None
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        if not line.strip():
            continue
        mark = next((m for m in "\t;," if m in line), None) if not columns else mark
        cells = [cell.strip().strip('"') for cell in line.split(mark)]
        if not columns:
            columns = [k for k, cell in enumerate(cells) if NUMBER.fullmatch(cell)][:2]
            if len(columns) < 2 and not first:
                raise DataError(f"line {number} of the text has no two columns of numbers: {_quoted(line)}.")
            first, columns = False, columns if len(columns) == 2 else []
            if not columns:
                continue  # a line of names
        there = [cells[k] if k < len(cells) else "" for k in columns]
        for k, cell in zip(columns, there, strict=True):
            if not NUMBER.fullmatch(cell) and cell:
                raise DataError(f"line {number} of the text: {_quoted(cell)} in column {k + 1} is no number.")
            if k >= len(cells):
                raise DataError(f"line {number} of the text has no column {k + 1}: {_quoted(line)}.")
        x, y = (float(cell) if cell else math.nan for cell in there)
        yield x, y


def _quoted(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
