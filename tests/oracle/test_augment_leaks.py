"""No augmentation leaks into samples: T = (1 − p) I + p A can be inverted, and well, at any p that is allowed.

Where what is drawn adds up, the eigenvalues of A are the characteristic function of the draws. Karras et al. 2020,
arXiv 2006.06676, section 2.2.
"""

import numpy as np
import pytest
import torch

from elegan.augment import MOST, crops, cutout, flip, scalings, translate

torch.set_num_threads(1)


def least(values: np.ndarray, p: float = MOST) -> float:
    """The least that T keeps of any frequency, its eigenvalues for those of A."""
    return float(np.abs(1 - p + p * values).min())


def mixing(share: np.ndarray, p: float) -> np.ndarray:
    """T on the images of one orbit, where element k of a cyclic group is applied with chance share[k]."""
    n = len(share)
    return (1 - p) * np.eye(n) + p * np.array([[share[(i - j) % n] for j in range(n)] for i in range(n)])


def test_a_uniform_choice_of_the_group_leaks_at_one_and_only_there():
    for n in (2, 4, 7):
        for p in (0.3, MOST):
            assert np.linalg.cond(mixing(np.full(n, 1 / n), p)) == pytest.approx(1 / (1 - p))
        assert np.linalg.matrix_rank(mixing(np.full(n, 1 / n), 1.0)) == 1


@pytest.mark.parametrize("p", [0.5, MOST])
def test_flips_do_not_leak(p):
    """Were every second image mirrored at p = .5, left could not be told from right; it is every fourth."""
    x = torch.arange(2.0).expand(40_000, 1, 1, 2)
    share = float((flip(x, p) != x).any(3).double().mean())
    matrix = np.array([[1 - share, share], [share, 1 - share]])
    assert np.linalg.cond(matrix) == pytest.approx(1 / (1 - p), rel=0.1)
    assert np.linalg.cond(matrix) < 5.5


def test_shifts_do_not_leak():
    """Frequencies of one axis; those of two are products. One uniform shift would lose a third of 2π at p = .75."""
    x = torch.zeros(60_000, 1, 8, 24)  # up to ±1 down, ±3 right
    x[:, 0, 4, 12] = 1
    y = translate(x, 1.0)[:, 0]
    frequencies = np.linspace(-np.pi, np.pi, 501)
    kept = []
    for axis, reach in ((1, 1), (2, 3)):
        share = y.sum(3 - axis).mean(0).numpy()
        shifts = np.arange(len(share)) - share.argmax()
        assert set(shifts[share > 0]) == set(range(-reach, reach + 1))
        assert share.max() == pytest.approx(1 / (reach + 1), abs=0.01)
        kept.append(np.exp(1j * frequencies[:, None] * shifts) @ share)
    assert least(np.multiply.outer(*kept)) > 0.9 * (1 - MOST)
    uniform = np.exp(1j * frequencies[:, None] * np.arange(-1, 2)).mean(1)
    assert least(uniform, 0.75) < 0.001


def test_sizes_and_crops_do_not_leak():
    """Frequencies of the logarithm of the size."""
    x = torch.zeros(40_000, 1, 8, 8, dtype=torch.float64)
    frequencies = np.linspace(-12, 12, 201)
    for sizes in (scalings(x, 1.0)[:, 0, 0], scalings(x, 1.0)[:, 1, 1], crops(x, 1.0)[:, 0, 0]):
        phases = torch.exp(1j * torch.from_numpy(frequencies)[:, None] * sizes.log())
        assert least(phases.mean(1).numpy()) > 0.9 * (1 - MOST)


def test_colours_do_not_leak():
    """Brightness moves an image's mean, contrast and saturation scale the distances to it: groups that commute, drawn
    apart, so frequencies multiply. This is what `MOST` is for: at p = .8215 one of brightness is lost.
    """
    uniform, w = (np.arange(2000) + 0.5) / 2000, np.linspace(-30, 30, 121)
    drawn = uniform - 0.5, np.log(0.5 + uniform), np.log(2 * uniform)
    brightness, contrast, saturation = (np.exp(1j * w[:, None] * values).mean(1) for values in drawn)
    kept = least(np.multiply.outer(np.multiply.outer(brightness, contrast), saturation))
    assert 0.02 < kept < 0.03
    assert least(np.sinc(np.linspace(8, 10, 400) / (2 * np.pi)), 0.8215) < 1e-3


def test_boxes_do_not_leak():
    """Four pixels, each kept or blanked, and boxes of two, which only take: T on the sixteen patterns is triangular."""
    patterns = ((np.arange(16)[:, None] >> np.arange(4)) & 1).astype(np.float32)
    x = torch.from_numpy(patterns).view(16, 1, 1, 4).repeat(3000, 1, 1, 1)
    y = cutout(x, 1.0, 0.6).view(3000, 16, 4).numpy().astype(int) @ (1 << np.arange(4))
    A = np.stack([np.bincount(y[:, k], minlength=16) / 3000 for k in range(16)], 1)
    T = (1 - MOST) * np.eye(16) + MOST * A
    assert np.abs(np.linalg.eigvals(T)).min() > 0.99 * (1 - MOST)
    assert np.linalg.matrix_rank(A) < 16
