"""How near drawn points are to the truth: KL and JS on a grid, modes covered, the share of points near a mode.

The truth is the density where it is known, integrated over the cells, or a million draws where it has no simple
integral, or else the data itself. Every point counts, also one outside the grid, so JS does fall to 0.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState

from elegan.data.readers import toys
from elegan.metrics.modes import coverage
from elegan.studio.lab.data import Points

POINTS = 10_000  # that are drawn to measure
CELLS = 30  # to a side of the grid
SMOOTHING = 1e-6  # of a uniform distribution mixed into the truth for KL, as in `metrics.modes`
DRAWS, SEED = 1_000_000, 4_000  # of a distribution without a simple integral
REACH = 5  # deviations of a mode that the grid shows around it
LASTING, LONG = 6, 20  # measures in a row until lost modes are spoken of, and until modes never found are
APART = 50  # steps between two measures that count
LOST = 0.75  # of the modes that were covered at best: with more of them, none counts as lost


@dataclass(frozen=True)
class Grid:
    """Cells of the plane and what share of points should lie in each, the last being all that is outside of them."""

    low: np.ndarray  # (2,)
    high: np.ndarray  # (2,)
    truth: np.ndarray  # (CELLS² + 1,)

    @classmethod
    def of(cls, points: Points) -> "Grid":
        """The grid for some data."""
        if points.modes is not None:
            return cls.of_modes(points.modes, points.sigma)
        rows = points.source.arrays["real"].astype(np.float64)
        if points.toy in toys.DRAWS:
            rows = toys.DRAWS[points.toy](RandomState(SEED), DRAWS)
        empty = cls(rows.min(0), rows.max(0), np.zeros(0))
        return replace(empty, truth=empty.shares(rows))

    @classmethod
    def of_modes(cls, centres: np.ndarray, sigma: float) -> "Grid":
        """The grid for equal Gaussians around centres (M, 2), whose density is integrated over every cell."""
        low, high = centres.min(0) - REACH * sigma, centres.max(0) + REACH * sigma
        edges = torch.from_numpy(np.linspace(low, high, CELLS + 1))[:, None]  # (CELLS + 1, 1, 2)
        below = torch.special.ndtr((edges - torch.from_numpy(centres)) / sigma).numpy()  # (CELLS + 1, M, 2)
        across, along = np.diff(below, axis=0).transpose(2, 0, 1)  # (CELLS, M) each
        inside = (across @ along.T / len(centres)).ravel()
        return cls(low, high, np.append(inside, max(1 - inside.sum(), 0.0)))

    def shares(self, points: np.ndarray) -> np.ndarray:
        """The share of points (N, 2) in each cell.  (CELLS² + 1,)"""
        extent = np.maximum(self.high - self.low, 1e-12)
        inside = ((points >= self.low) & (points <= self.high)).all(1)
        place = ((points[inside] - self.low) / extent * CELLS).astype(np.int64).clip(max=CELLS - 1)
        cell = np.full(len(points), CELLS * CELLS)
        cell[inside] = place[:, 0] * CELLS + place[:, 1]
        return np.bincount(cell, minlength=CELLS * CELLS + 1) / len(points)

    def divergences(self, points: np.ndarray) -> tuple[float, float]:
        """KL(points ‖ truth) and JS, in nats, as `metrics.modes.divergence` defines them."""
        found, smooth = self.shares(points), (1 - SMOOTHING) * self.truth + SMOOTHING / len(self.truth)
        middle = (found + self.truth) / 2
        return relative(found, smooth), min((relative(found, middle) + relative(self.truth, middle)) / 2, math.log(2))


def relative(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p ‖ q) in nats; a cell where p is 0 adds nothing."""
    there = p > 0
    return float(p[there] @ np.log(p[there] / q[there]))


class Measuring:
    """Measures points against the data of a lab, and remembers how many modes they covered."""

    def __init__(self, points: Points, grid: Grid):
        self.points, self.grid = points, grid
        self.covered: list[int] = []  # modes, measure by measure
        self.best = 0  # of them all
        self.next = 0  # the step from which on the next one counts

    def __call__(self, drawn: np.ndarray, step: int) -> dict[str, Any]:
        """`Measures` of the page's contract, but for step and gap. drawn: (N, 2), in the units of the data, after so
        many steps; to the memory of modes it counts if the last that did was long ago."""
        found: dict[str, Any] = {"kl": None, "js": None, "modes": None, "total": None, "quality": None}
        drawn = drawn[np.isfinite(drawn).all(1)]
        if len(drawn):
            found["kl"], found["js"] = self.grid.divergences(drawn)
        if len(drawn) and self.points.counted and self.points.modes is not None:
            near = coverage(drawn, self.points.modes.tolist(), self.points.sigma)
            found |= {"modes": near.modes, "total": near.total, "quality": near.share}
            if step >= self.next:
                self.next = step + APART
                self.covered = [*self.covered[1 - LONG :], near.modes]
                self.best = max(self.best, near.modes)
        return found

    def lost(self) -> str:
        """What modes the generator has lost or never found, in words, once that has lasted; or nothing."""
        total = 0 if self.points.modes is None else len(self.points.modes)
        last, all_ = self.covered[-LASTING:], self.covered[-LONG:]
        if len(last) < LASTING:
            return ""
        now, falling = last[-1], ", and falling" if last[-1] < last[0] else ""
        if self.best > 1 and max(last) <= LOST * self.best and now <= last[0]:
            return f"the generator has lost modes: it draws {now} of {total}{falling}, and it drew {self.best} before"
        if len(all_) == LONG and max(all_) <= total / 2:
            return f"the generator draws {now} of {total} modes{falling}, and never more than {self.best}"
        return ""
