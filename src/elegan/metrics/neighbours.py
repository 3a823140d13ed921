"""Nearest neighbours by Euclidean distance, in blocks: fast where it may be, exact where it must be.

Products in float32 bound every squared distance from both sides (Higham, 2002, section 3.1: n products and sums err by
less than n u / (1 − n u) of the sum of magnitudes). Whatever the bounds leave open is settled by Σ (x − y)² in float64.
So nothing depends on blocks or on float32, equal rows are at distance 0, and ties are ties.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 4_000_000  # pairs held at a time
UNIT = 2.0**-24  # rounding of float32
TINY = 2.0**-100  # more than products lose to underflow


def checked(*sets: np.ndarray, least: int = 1) -> list[np.ndarray]:
    """Sets of features (N, d) as arrays. ValueError unless all are of one d, finite and of `least` rows or more."""
    arrays = [np.asarray(x) for x in sets]
    for x in arrays:
        if x.ndim != 2 or len(x) < least or not x.shape[1]:
            raise ValueError(f"features are (N, d) with N of {least} or more, not {x.shape}")
        if x.shape[1] != arrays[0].shape[1]:
            raise ValueError(f"features of {arrays[0].shape[1]} and of {x.shape[1]} dimensions cannot be compared")
        if not np.isfinite(x).all():
            raise ValueError("features are not all finite")
    return arrays


class Block(NamedTuple):
    """Rows of x against columns, rows of y: `low` ≤ |x − y|² · scale² ≤ `high`, float32 (rows, columns)."""

    pairs: "Pairs"
    rows: slice
    columns: slice
    low: np.ndarray
    high: np.ndarray

    def within(self, squared: np.ndarray) -> np.ndarray:
        """Whether |x − y|² ≤ `squared`, (rows, 1) or (1, columns): bool (rows, columns), of which none is a guess."""
        bound = self.pairs.scaled(squared)
        inside = self.low <= bound
        i, j = np.nonzero(inside & (self.high > bound))
        exact = self.pairs.exact(i + self.rows.start, j + self.columns.start)
        inside[i, j] = exact <= np.broadcast_to(squared, inside.shape)[i, j]
        return inside

    def turned(self, start: int) -> "Block":
        """Its columns from `start` on as rows, of pairs of a set with itself."""
        low, high = (np.ascontiguousarray(bound[:, start - self.columns.start :].T) for bound in (self.low, self.high))
        return Block(self.pairs, slice(start, self.columns.stop), self.rows, low, high)


class Pairs:
    """All pairs of a row of x (N, d) and a row of y (M, d)."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.x, self.y = x, y
        self.centre = y.mean(0, dtype=np.float64)
        farthest = max(float(np.abs(end - self.centre).max()) for z in (x, y) for end in (z.min(0), z.max(0)))
        self.scale = 2.0 ** -np.frexp(farthest)[1]  # a power of two, so that scaling is exact
        self.y_small, self.y_norms = self._small(y)
        self.x_small, self.x_norms = (self.y_small, self.y_norms) if x is y else self._small(x)
        self.y_first = _first_of_equals(y)
        self.x_first = self.y_first if x is y else _first_of_equals(x)

    def _small(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows about the centre, of values in [-1, 1], as float32 (N, d), and their squared norms (N,)."""
        small, norms = np.empty(z.shape, np.float32), np.empty(len(z))
        for rows in _slices(len(z), z.shape[1]):
            apart = (z[rows] - self.centre) * self.scale
            small[rows], norms[rows] = apart, np.einsum("nd,nd->n", apart, apart)
        return small, norms

    def scaled(self, squared: np.ndarray) -> np.ndarray:
        """Squared distances on the scale of bounds, rounded to float32 as the bounds allow for."""
        return (squared * self.scale**2).astype(np.float32)

    def blocks(self, *, half: bool = False) -> Iterator[Block]:
        """Some rows at a time against all columns; if `half`, against those that were not rows of an earlier block."""
        errors = (self.x.shape[1] + 16) * UNIT  # 16 for what else is rounded: rows, norms, sums, thresholds
        share = errors / (1 - errors)
        x_slack, y_slack = share * self.x_norms + TINY, share * self.y_norms + TINY
        x_low, y_low = (self.x_norms - x_slack).astype(np.float32), (self.y_norms - y_slack).astype(np.float32)
        x_open, y_open = (2 * x_slack).astype(np.float32), (2 * y_slack).astype(np.float32)
        for rows in _slices(len(self.x), len(self.y)):
            columns = slice(rows.start if half else 0, len(self.y))
            low = (-2 * self.x_small[rows]) @ self.y_small[columns].T
            low += x_low[rows, None]
            low += y_low[columns]
            high = low + x_open[rows, None]
            high += y_open[columns]
            yield Block(self, rows, columns, low, high)

    def exact(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """|x[i] − y[j]|², (P,), in float64, from differences; a pair of equal rows is computed once."""
        pairs, again = np.unique(self.x_first[i] * len(self.y) + self.y_first[j], return_inverse=True)
        squared = np.empty(len(pairs))
        for some in _slices(len(pairs), self.x.shape[1]):
            i, j = np.divmod(pairs[some], len(self.y))
            apart = self.x[i].astype(np.float64) - self.y[j]
            squared[some] = np.einsum("nd,nd->n", apart, apart)
        return squared[again]


class Neighbours(NamedTuple):
    """The rows of y nearest to each row of x, nearest first: `which` (N, k), `squared` distances (N, k) in float64."""

    which: np.ndarray
    squared: np.ndarray

    @property
    def distance(self) -> np.ndarray:
        """Euclidean distances, (N, k)."""
        return np.sqrt(self.squared)


def nearest(x: np.ndarray, y: np.ndarray | None = None, *, k: int = 1) -> Neighbours:
    """The k nearest rows of y (M, d) to each row of x (N, d); without y, those of x other than the row itself.

    Of equally near rows the first in y comes first. ValueError if there are fewer than k, or features do not match.
    """
    others = y is None
    x, y = checked(x, x if y is None else y)
    if not 1 <= k <= len(y) - others:
        raise ValueError(f"no {k} nearest neighbours among {len(y) - others} samples")
    found = Neighbours(np.zeros((len(x), k), np.int64), np.full((len(x), k), np.inf))
    for block in Pairs(x, y).blocks(half=others):
        if others:
            itself = np.arange(len(block.low))
            block.low[itself, itself], block.high[itself, itself] = np.nan, np.inf  # neither near nor far
            if block.rows.stop < len(x):
                _merge(found, block.turned(block.rows.stop))
        _merge(found, block)
    return found


def _merge(found: Neighbours, block: Block) -> None:
    """Put what is nearer in a block into what was found for its rows, in place."""
    which, squared = (known[block.rows] for known in found)  # (b, k) views
    rows, k = which.shape
    reach = block.pairs.scaled(squared[:, -1:])
    if block.low.shape[1] > k:
        reach = np.minimum(reach, np.partition(block.high, k - 1, axis=1)[:, k - 1 : k])
    i, j = np.nonzero(block.low <= reach)  # the k nearest, and what the bounds leave open
    j += block.columns.start
    i, j = np.append(i, np.arange(rows).repeat(k)), np.append(j, which)
    exact = np.append(block.pairs.exact(i[: -which.size] + block.rows.start, j[: -which.size]), squared)
    order = np.lexsort((j, exact, i))
    nearest = order[np.searchsorted(i[order], np.arange(rows))[:, None] + np.arange(k)]  # (b, k)
    which[:], squared[:] = j[nearest], exact[nearest]


def squared_distances(x: np.ndarray, y: np.ndarray | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows of x (N, d), each with its squared distances to y (M, d), or to x itself: float64 (b, M).

    For sums over many pairs: right to about 1e-16 of the squared norms, where `nearest` is right to the digit.
    """
    centre = np.mean(x if y is None else y, 0, dtype=np.float64)  # so that equal rows are zeros
    a = x - centre
    b = a if y is None else y - centre
    a_norms, b_norms = np.einsum("nd,nd->n", a, a), np.einsum("nd,nd->n", b, b)
    for rows in _slices(len(a), len(b)):
        squared = a[rows] @ b.T
        squared *= -2
        squared += a_norms[rows, None]
        squared += b_norms
        if y is None:
            squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = 0
        yield rows, np.maximum(squared, 0, out=squared)


def _slices(count: int, width: int) -> Iterator[slice]:
    """Consecutive rows, as many at a time as hold `BLOCK` values of `width` each."""
    step = max(1, BLOCK // width)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _first_of_equals(x: np.ndarray) -> np.ndarray:
    """For each row the first one equal to it, (N,)."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), n) for n, row in enumerate(x)])
