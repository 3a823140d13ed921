"""Samples that are there twice: the same values, or the same picture made anew (cropped a little, packed, noisy).

    those = Joined(parts)
    same = exact(those)
    near(those, leave=same)

Near: the hashes of two pictures differ in few bits, and one laid over the other is much like it. Without the second a
set of digits would be full of twins. Laying over: B. D. Lucas, T. Kanade, "An Iterative Image Registration Technique",
1981, of the light a + b x under a shift and a stretch; the gradients of the one picture serve all steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from elegan.data.curation import hashes
from elegan.data.curation.glance import FLAT
from elegan.data.curation.hashes import SIDE
from elegan.data.curation.parts import Part

BITS, BITS_OF_MANY, MANY = 14, 6, 20_000  # in which hashes of twins may differ; among more pictures than that, fewer
ALIKE = 0.998  # least correlation of two twins, one laid over the other
ROUGHLY = 0.9  # least correlation of two that are laid over each other at all
TRIED = 3  # others that a picture is laid over, at most, those most alike
STEPS = 3
FAR = 2.5  # pixels of 32 that an edge may move
EDGE = 2  # pixels that are not compared: something else moves in there
PORTION = 512


class Joined:
    """Parts of one field, end to end."""

    def __init__(self, parts: Sequence[Part]):
        self.parts = [part for part in parts if len(part)]
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def column(self, name: str) -> np.ndarray:
        """A column of the glances of all."""
        return np.concatenate([part.glances[name] for part in self.parts])

    def at(self, place: int) -> tuple[Part, int]:
        """The part in which a place lies, and where in it."""
        number = int(np.searchsorted(self.starts, place, side="right")) - 1
        return self.parts[number], place - int(self.starts[number])

    def name(self, place: int) -> str:
        part, k = self.at(place)
        return part.names[k]

    def thumbs(self, places: np.ndarray) -> np.ndarray:
        """float32 (N, 32, 32), smoothed, of some places."""
        made = np.empty((len(places), SIDE, SIDE), np.float32)
        for part, start in zip(self.parts, self.starts, strict=False):
            here = (places >= start) & (places < start + len(part))
            made[here] = part.glances["thumb"][places[here] - start]
        smooth = _smoothing()
        return smooth @ made @ smooth.T / 255


@dataclass(frozen=True)
class Twin:
    """Two places that hold near the same: in how many bits their hashes differ, how alike they are."""

    one: int
    other: int
    bits: int
    alike: float


def exact(those: Joined) -> list[list[int]]:
    """The groups of places that hold the same values, each in ascending order. What was not looked at as a training
    reads it is read again if it has the same digest."""
    _, numbers = np.unique(those.column("digest"), axis=0, return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers.reshape(-1)[order])) + 1
    groups = [group.tolist() for group in np.split(order, cuts) if len(group) > 1]
    made = []
    for group in groups:
        kinds: dict[bytes, list[int]] = {}
        for place in group:
            part, k = those.at(place)
            glance = part.glances[k]
            try:
                found = glance["digest"] if glance["whole"] else part.whole(k)
            except Exception:  # it could be read before; what has gone is nobody's twin
                continue
            kinds.setdefault(np.asarray(found).tobytes(), []).append(place)
        made += [kind for kind in kinds.values() if len(kind) > 1]
    return sorted(made)


def near(those: Joined, *, leave: Sequence[Sequence[int]] = (), alike: float = ALIKE) -> list[Twin]:
    """Pairs of pictures that are nearly the same, the likest first; of groups to leave only the first takes part."""
    flat = those.column("contrast") < FLAT
    flat[[place for group in leave for place in group[1:]]] = True
    places = np.flatnonzero(~flat)
    prints = those.column("hash")[places]
    pairs = hashes.near_pairs(prints, bits_for(len(places)))
    bits = np.bitwise_count(prints[pairs[:, 0]] ^ prints[pairs[:, 1]])
    pairs = places[pairs]
    likely = _likely(those, pairs)
    found = []
    for start in range(0, len(likely), PORTION):
        some = likely[start : start + PORTION]
        one, other = (those.thumbs(pairs[some, side]) for side in (0, 1))
        found_here = likeness(one, other)
        for k in np.flatnonzero(found_here >= alike).tolist():
            number = some[k]
            found.append(Twin(int(pairs[number, 0]), int(pairs[number, 1]), int(bits[number]), float(found_here[k])))
    return sorted(found, key=lambda twin: -twin.alike)


def bits_for(count: int) -> int:
    """In how many bits the hashes of twins may differ, among so many pictures."""
    return BITS if count <= MANY else BITS_OF_MANY


def _likely(those: Joined, pairs: np.ndarray) -> np.ndarray:
    """Which pairs are worth laying over each other: of each picture the `TRIED` that are most alike as they are."""
    alike = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), PORTION):
        some = slice(start, start + PORTION)
        one, other = (_centred(those.thumbs(pairs[some, side])) for side in (0, 1))
        alike[some] = (one * other).sum(1)
    chosen = np.zeros(len(pairs), bool)
    ends = np.concatenate([pairs[:, 0], pairs[:, 1]])
    order = np.lexsort((-np.concatenate([alike, alike]), ends))
    firsts = np.flatnonzero(np.diff(ends[order], prepend=-1))
    rank = np.arange(len(ends)) - np.repeat(firsts, np.diff(firsts, append=len(ends)))
    chosen[order[rank < TRIED] % max(len(pairs), 1)] = True
    return np.flatnonzero(chosen & (alike >= ROUGHLY))


def likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) the correlation of pictures (N, 32, 32) with others laid over them, the best of all steps."""
    n, inner = len(one), (slice(None), slice(EDGE, -EDGE), slice(EDGE, -EDGE))
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    across, down = (x - x.mean()) / (SIDE / 2), (y - y.mean()) / (SIDE / 2)
    down_slope, across_slope = np.gradient(one, axis=(1, 2))
    slopes = across_slope, down_slope, across_slope * across, down_slope * down, one, np.ones_like(one)
    moves = np.stack([slope[inner].reshape(n, -1) for slope in slopes], 1)  # (N, 6, pixels)
    inverse = np.linalg.inv(moves @ moves.transpose(0, 2, 1) + 1e-3 * np.eye(6, dtype=np.float32))
    wanted, best = one[inner].reshape(n, -1), np.full(n, -1.0, np.float32)
    place = np.zeros((n, 4, 1, 1), np.float32)  # shift across, shift down, stretch across, stretch down
    for _ in range(STEPS + 1):
        x_there, y_there = x + place[:, 0] + place[:, 2] * across, y + place[:, 1] + place[:, 3] * down
        laid = _sampled(other, x_there, y_there)[inner].reshape(n, -1)
        best = np.maximum(best, (_centred(wanted) * _centred(laid)).sum(1))
        step = inverse @ (moves @ (wanted - laid)[:, :, None])
        place = (place + step[:, :4, :, None]).clip(-FAR, FAR)
    return best


def _sampled(pictures: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pictures at places between their pixels, bilinear; beyond the edge is the edge."""
    x, y = x.clip(0, SIDE - 1.001), y.clip(0, SIDE - 1.001)
    left, upper = x.astype(np.int32), y.astype(np.int32)
    x, y = x - left, y - upper
    flat, corner = pictures.reshape(len(pictures), -1), (upper * SIDE + left).reshape(len(pictures), -1)

    def at(offset: int) -> np.ndarray:
        return np.take_along_axis(flat, corner + offset, 1).reshape(pictures.shape)

    above = at(0) * (1 - x) + at(1) * x
    below = at(SIDE) * (1 - x) + at(SIDE + 1) * x
    return above * (1 - y) + below * y


def _centred(rows: np.ndarray) -> np.ndarray:
    """(N, …) as (N, D) of mean 0 and length 1."""
    rows = rows.reshape(len(rows), -1)
    rows = rows - rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


@cache
def _smoothing() -> np.ndarray:
    """float32 (32, 32): a binomial filter of five, so that neither noise nor how a picture was resized counts."""
    step = np.eye(SIDE) / 2 + np.eye(SIDE, k=1) / 4 + np.eye(SIDE, k=-1) / 4
    step[0, 0] = step[-1, -1] = 0.75
    return (step @ step).astype(np.float32)
