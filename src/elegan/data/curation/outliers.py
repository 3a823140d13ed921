"""Samples unlike the others, and samples whose neighbours are of another class.

Pictures: what the principal components of the others leave unexplained (J. E. Jackson, G. S. Mudholkar, "Control
Procedures for Residuals Associated With Principal Component Analysis", 1979). Vectors: isolation forest (F. T. Liu,
K. M. Ting, Z.-H. Zhou, 2008), by scikit-learn. Labels: the normalised margin of confident learning (C. G. Northcutt,
L. Jiang, I. L. Chuang, arXiv 1911.00068, section 3.2), of the classes of the nearest neighbours.
"""

import numpy as np

from elegan.errors import DataError

EXPLAINED = 0.9  # share of the variance that the components hold
TRIMMED = 0.1  # share of the pictures, the least explained, that components are not made of
FITTED = 5_000  # pictures that components are made of, at most
PORTION = 4_096
NEIGHBOURS = 10


def robust_z(values: np.ndarray) -> np.ndarray:
    """(values - median) / (1.4826 · median of |values - median|); 0 where all are alike (Iglewicz, Hoaglin 1993)."""
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    return np.zeros(len(values)) if spread <= 1e-12 * max(1.0, abs(middle)) else (values - middle) / spread


def unexplained(thumbs: np.ndarray, among: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Of uint8 pictures (N, H, W) of even sides, those at the places among: the robust z of the logarithm of what
    components leave of them at half the size; 0 of too few. Of their roots, so that what is dim counts as well.

    The components are made of those near the middle picture, then twice of those explained best: outliers make none.
    """
    if len(among) < 3 * NEIGHBOURS:
        return np.zeros(len(among))

    height, width = thumbs.shape[1:]

    def roots(places: np.ndarray) -> np.ndarray:
        halves = thumbs[places].reshape(len(places), height // 2, 2, width // 2, 2).mean((2, 4), dtype=np.float32)
        return np.sqrt(halves).reshape(len(places), -1)

    fitted = roots(np.sort(np.random.default_rng(seed).permutation(among)[:FITTED]))
    left = np.linalg.norm(fitted - np.median(fitted, axis=0), axis=1)
    mean, parts = _components(fitted[left <= np.quantile(left, 1 - TRIMMED)])
    for _ in range(2):
        left = _left(fitted, mean, parts)
        mean, parts = _components(fitted[left <= np.quantile(left, 1 - TRIMMED)])
    starts = range(0, len(among), PORTION)
    return robust_z(np.log(np.concatenate([_left(roots(among[k : k + PORTION]), mean, parts) for k in starts])))


def _components(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (D,) and the directions (k, D) that hold `EXPLAINED` of the variance."""
    mean = rows.mean(0)
    values, vectors = np.linalg.eigh(np.cov(rows - mean, rowvar=False).astype(np.float64))
    held = np.cumsum(values[::-1]) / max(values.sum(), 1e-12)
    count = min(int(np.searchsorted(held, EXPLAINED)) + 1, len(rows) // 10)  # more would fit each of few by heart
    return mean, vectors[:, ::-1][:, :count].T.astype(np.float32)


def _left(rows: np.ndarray, mean: np.ndarray, parts: np.ndarray) -> np.ndarray:
    rows = rows - mean
    held = rows @ parts.T
    return np.sqrt(np.maximum((rows**2).sum(1) - (held**2).sum(1), 1e-9))


def isolated(rows: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Of vectors (N, D): the robust z of how few cuts set each apart, by the spread of those above the middle, as the
    scores of ordinary samples are skewed. Errors: `DataError` without scikit-learn."""
    if len(rows) < 3 * NEIGHBOURS:
        return np.zeros(len(rows))
    try:
        from sklearn.ensemble import IsolationForest
    except ImportError as error:
        raise DataError(_missing("outlying")) from error
    forest = IsolationForest(n_estimators=200, random_state=seed).fit(rows)
    above = -forest.score_samples(rows)
    above -= np.median(above)
    spread = 1.4826 * np.median(above[above > 0]) if (above > 0).any() else 0.0
    return above / spread if spread > 1e-12 else np.zeros(len(rows))


def margins(features: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Of features (N, D): by how much another class is more probable than the given, in [-1, 1], and which (N,).

    The probabilities are the classes of the `NEIGHBOURS` nearest others; so no sample has a say on itself.
    Errors: `DataError` without scikit-learn.
    """
    try:
        from sklearn.neighbors import NearestNeighbors
    except ImportError as error:
        raise DataError(_missing("mislabelled")) from error
    count = min(NEIGHBOURS, len(features) - 1)
    if count < 1:
        return np.full(len(features), -1.0), labels
    near = NearestNeighbors(n_neighbors=count).fit(features).kneighbors(return_distance=False)
    votes = (labels[near][:, :, None] == np.arange(classes)).mean(1)  # (N, classes)
    given = np.take_along_axis(votes, labels[:, None], 1)[:, 0]
    np.put_along_axis(votes, labels[:, None], -1.0, 1)
    return votes.max(1) - given, votes.argmax(1)


def _missing(rule: str) -> str:
    return f'the rule {rule} needs scikit-learn: pip install "elegan[clean]", or leave the rule out'
