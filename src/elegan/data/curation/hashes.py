"""Perceptual hashes of images, and all pairs of hashes that differ in few bits.

C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010 (the DCT hash, section 3.2.1).
M. Norouzi, A. Punjani, D. J. Fleet, "Fast Exact Search in Hamming Space with Multi-Index Hashing", arXiv 1307.2982.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np

SIDE = 32  # pixels of the grey image that is hashed
BANDS, BITS = 4, 16  # a hash is cut into so many bands of so many bits
FEW = 20_000  # hashes that are each compared with each
PORTION = 1 << 21  # pairs that are compared at a time
MOST = 4_000_000  # pairs that are kept; data with more is nearly one image


@cache
def _cosines() -> np.ndarray:
    """float32 (8, 32): rows 1 to 8 of the discrete cosine transform, type II, unscaled. Row 0, the mean, is not in the
    hash: brightness says nothing of what is to be seen."""
    place = np.arange(SIDE) + 0.5
    return np.cos(np.pi / SIDE * np.arange(1, 9)[:, None] * place).astype(np.float32)


def dct_hash(images: np.ndarray) -> np.ndarray:
    """uint64 (N,) of grey images (N, 32, 32): a bit is set where one of the 64 lowest frequencies is above the median
    of them. The first bit is the most significant; frequencies go across first."""
    rows = _cosines()
    found = (rows @ images.astype(np.float32) @ rows.T).reshape(len(images), 64)
    bits = found > np.median(found, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def near_pairs(hashes: np.ndarray, most: int) -> np.ndarray:
    """int64 (P, 2): all pairs i < j of hashes (N,) that differ in at most so many bits, in ascending order.

    Exact; of up to `FEW` each is compared with each, of more it is not quadratic. Beyond `MOST` pairs the rest are left
    out.
    """
    found, count = [np.empty((0, 2), np.int64)], 0
    for close in _compared(hashes, most) if len(hashes) <= FEW else _looked_up(hashes, most):
        found.append(close)
        count += len(close)
        if count > MOST:
            break
    return np.unique(np.concatenate(found), axis=0)


def _compared(hashes: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """The pairs, found by comparing each with each."""
    step = max(1, PORTION // max(len(hashes), 1))
    for start in range(0, len(hashes), step):
        near = np.bitwise_count(hashes[start : start + step, None] ^ hashes[None, start:]) <= most
        row, column = np.nonzero(np.triu(near, 1))
        yield np.stack([row, column], axis=1) + start


def _looked_up(hashes: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """The pairs, some of them more than once. Of two hashes that differ in at most 4 r + a bits, a < 4, one of the
    first a + 1 bands differs in at most r bits, or one of the others in at most r - 1: only those are compared."""
    radius, over = divmod(most, BANDS)
    for band in range(BANDS):
        keys = ((hashes >> np.uint64(band * BITS)) & np.uint64((1 << BITS) - 1)).astype(np.int64)
        for pairs in _meetings(keys, radius if band <= over else radius - 1):
            near = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]) <= most
            yield np.sort(pairs[near], axis=1)


def _meetings(keys: np.ndarray, radius: int) -> Iterator[np.ndarray]:
    """All pairs of places whose keys of `BITS` bits differ in at most so many, each once, in portions (P, 2)."""
    order = np.argsort(keys, kind="stable")
    sizes = np.bincount(keys, minlength=1 << BITS)
    starts = np.cumsum(sizes) - sizes
    every = np.arange(1 << BITS)
    for mask in every[np.bitwise_count(every.astype(np.uint16)) <= radius] if radius >= 0 else ():
        ones = every[(sizes > 0) & (sizes[every ^ mask] > 0) & (every <= every ^ mask)]
        others = ones ^ mask
        ends = np.cumsum(sizes[ones] * sizes[others])
        for start in range(0, int(ends[-1]) if len(ends) else 0, PORTION):
            number = np.arange(start, min(start + PORTION, ends[-1]))
            bucket = np.searchsorted(ends, number, side="right")
            within = number - (ends - sizes[ones] * sizes[others])[bucket]
            row, column = np.divmod(within, sizes[others][bucket])
            pairs = np.stack([order[starts[ones][bucket] + row], order[starts[others][bucket] + column]], axis=1)
            yield pairs[row < column] if mask == 0 else pairs
