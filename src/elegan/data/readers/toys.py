"""Toys: distributions in the plane whose truth is known, so that what a game learns can be seen and measured.

Mixtures of Gaussians keep centres and deviation in the field's `about`: `{"modes": [[x, y], …], "sigma": 0.01}`.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import RandomState

from elegan.data.source import Source, vector_field
from elegan.spec import Spec

ROWS = {"train": 50_000, "test": 10_000}
SEED = {"train": 2_000, "test": 2_001}

RING = tuple((np.cos(turn), np.sin(turn)) for turn in np.arange(8) * np.pi / 4)
GRID = tuple((x, y) for x in (-4.0, -2.0, 0.0, 2.0, 4.0) for y in (-4.0, -2.0, 0.0, 2.0, 4.0))
TWO = ((-0.7, -0.5), (0.7, 0.5))
THREE = tuple((np.cos(turn), np.sin(turn)) for turn in np.pi / 2 + np.arange(3) * 2 * np.pi / 3)
MODES = {  # name -> centres, deviation
    "ring": (RING, 0.01),
    "grid": (GRID, 0.05),
    "two": (TWO, 0.15),
    "three": (THREE, 0.12),
}


def spiral(draw: RandomState, n: int) -> np.ndarray:
    """One arm of two turns, outwards from the origin to radius 1."""
    turn = 4 * np.pi * np.sqrt(draw.rand(n))
    return np.stack([turn * np.cos(turn), turn * np.sin(turn)], 1) / (4 * np.pi) + 0.01 * draw.randn(n, 2)


def moons(draw: RandomState, n: int) -> np.ndarray:
    """Two interleaved half circles of radius 1."""
    upper, turn = draw.rand(n) < 0.5, np.pi * draw.rand(n)
    x = np.where(upper, np.cos(turn), 1 - np.cos(turn))
    y = np.where(upper, np.sin(turn), 0.5 - np.sin(turn))
    return np.stack([x, y], 1) + 0.05 * draw.randn(n, 2)


def line(draw: RandomState, n: int) -> np.ndarray:
    """A segment from (-1, -0.5) to (1, 0.5): a support without area."""
    x = draw.uniform(-1, 1, n)
    return np.stack([x, x / 2], 1)


def checkerboard(draw: RandomState, n: int) -> np.ndarray:
    """The eight dark squares of a board of 4 x 4 on [-2, 2]²."""
    square = draw.randint(8, size=n)
    row, column = square // 2, 2 * (square % 2) + square // 2 % 2
    return np.stack([column, row], 1) - 2 + draw.rand(n, 2)


DRAWS: dict[str, Callable[[RandomState, int], np.ndarray]] = {
    "spiral": spiral,
    "moons": moons,
    "line": line,
    "checkerboard": checkerboard,
}
ABOUT = {
    "ring": "60,000 points in the plane: 8 Gaussians on a circle of radius 1, deviation 0.01",
    "grid": "60,000 points in the plane: 25 Gaussians on a grid of step 2, deviation 0.05",
    "two": "60,000 points in the plane: 2 Gaussians, deviation 0.15",
    "three": "60,000 points in the plane: 3 Gaussians on a circle of radius 1, deviation 0.12, that hardly touch",
    "spiral": "60,000 points in the plane: one arm of two turns",
    "moons": "60,000 points in the plane: two interleaved half circles",
    "line": "60,000 points in the plane: a segment without area",
    "checkerboard": "60,000 points in the plane: eight dark squares",
}


def read(name: str, split: str) -> Source:
    """50,000 points to train, 10,000 to test, float32 (N, 2); always the same."""
    draw, n = RandomState(SEED[split]), ROWS[split]  # RandomState's stream is the one numpy promises never to change
    known = {}
    if name in MODES:
        modes, sigma = MODES[name]
        known = {"modes": [[float(x), float(y)] for x, y in modes], "sigma": sigma}
        points = np.array(modes)[draw.randint(len(modes), size=n)] + sigma * draw.randn(n, 2)
    else:
        points = DRAWS[name](draw, n)
    points = points.astype(np.float32)
    about = ABOUT[name].replace("60,000", f"{n:,}")
    return Source(name, Spec(real=vector_field(points, common=True, about=known)), {"real": points}, about)
