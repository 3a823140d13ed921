"""PSNR and SSIM against scikit-image and by hand."""

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from elegan.metrics.psnr import luminance, psnr
from elegan.metrics.ssim import ssim

RNG = np.random.default_rng(19)
A = RNG.integers(0, 256, (3, 3, 24, 30), dtype=np.uint8)
B = np.clip(A + RNG.normal(size=A.shape) * np.array([3, 20, 60]).reshape(3, 1, 1, 1), 0, 255).astype(np.uint8)


def their_ssim(a: np.ndarray, b: np.ndarray, peak: float = 255) -> float:
    a, b = a.astype(float), b.astype(float)
    options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    return structural_similarity(a, b, data_range=peak, channel_axis=0, **options)


def test_psnr_is_scikit_images():
    found = psnr(A, B)
    expected = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(A, B, strict=True)]
    np.testing.assert_allclose(found.influences[0], expected, rtol=1e-12)
    assert found.value == pytest.approx(np.mean(expected))


def test_psnr_by_hand():
    zeros = np.zeros((2, 1, 4, 4))
    assert psnr(zeros, zeros + 25.5).value == pytest.approx(20)
    assert psnr(zeros, zeros + 0.1, peak=1).value == pytest.approx(20)
    assert psnr(zeros, zeros).value == np.inf
    assert psnr(zeros, zeros).interval() is None
    some = np.stack([zeros[0] + 25.5, zeros[0] + 2.55])
    assert psnr(zeros, some).influences[0] == pytest.approx([20, 40])
    assert psnr(zeros, some).value == pytest.approx(30)  # the mean of decibels, not the decibels of the mean


def test_ssim_is_scikit_images():
    found = ssim(A, B)
    expected = [their_ssim(a, b) for a, b in zip(A, B, strict=True)]
    np.testing.assert_allclose(found.influences[0], expected, rtol=1e-9)
    assert found.value == pytest.approx(np.mean(expected))
    assert len({round(x, 2) for x in expected}) == 3
    assert ssim(A / 255, B / 255, peak=1).value == pytest.approx(found.value, rel=1e-9)
    smooth = np.linspace(0, 40, 24 * 30).reshape(1, 1, 24, 30)
    assert ssim(smooth, smooth[:, :, ::-1], peak=100).value == pytest.approx(
        their_ssim(smooth[0], smooth[0, :, ::-1], 100), rel=1e-9
    )


def test_ssim_by_hand():
    """Flat images have neither contrast nor structure: what is left is the luminance term."""
    one, two = np.full((1, 1, 11, 11), 100.0), np.full((1, 1, 11, 11), 50.0)
    c1 = 2.55**2
    assert ssim(one, two).value == pytest.approx((2 * 5_000 + c1) / (12_500 + c1), rel=1e-6)
    assert ssim(A, A).value == pytest.approx(1, abs=1e-12)
    board = np.indices((12, 12)).sum(0)[None, None] % 2 * 255.0
    assert ssim(board, 255 - board).value < -0.9


def test_a_border_is_left_out():
    dirty = B.copy()
    dirty[:, :, :3], dirty[:, :, -3:], dirty[..., :3], dirty[..., -3:] = 0, 255, 255, 0
    for metric in (psnr, ssim):
        assert metric(A, dirty, crop=3).value == metric(A[..., 3:-3, 3:-3], B[..., 3:-3, 3:-3]).value
        assert metric(A, dirty, crop=2).value != metric(A, B, crop=2).value


def test_luma_is_that_of_bt_601():
    ours = np.stack([luminance(image.astype(float), 255) for image in A])
    theirs = rgb2ycbcr(A, channel_axis=1)[:, :1]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    white, black = np.ones((3, 1, 1)), np.zeros((3, 1, 1))
    assert luminance(white, 1).item() == pytest.approx(235 / 255)
    assert luminance(black, 1).item() == pytest.approx(16 / 255)
    other = rgb2ycbcr(B, channel_axis=1)[:, :1]
    assert psnr(A, B, luma=True).value == pytest.approx(psnr(theirs, other).value, rel=1e-9)
    assert ssim(A, B, luma=True).value == pytest.approx(ssim(theirs, other).value, rel=1e-9)
    assert psnr(A / 255, B / 255, luma=True, peak=1).value == pytest.approx(psnr(theirs, other).value, rel=1e-9)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_cannot_be_compared_is_refused(metric):
    with pytest.raises(ValueError, match="of one shape"):
        metric(A, B[:, :, :-1])
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        metric(A[0], B[0])
    with pytest.raises(ValueError, match="not of 1 channels"):
        metric(A[:, :1], B[:, :1], luma=True)
    with pytest.raises(ValueError, match="nothing to compare"):
        metric(A, B, crop=12)
    with pytest.raises(ValueError, match="nothing to compare"):
        metric(A, B, crop=-1)
    with pytest.raises(ValueError, match="nothing to compare"):
        metric(A, B, peak=0)
    with pytest.raises(ValueError, match="not all finite"):
        metric(A * np.nan, B)


def test_a_window_must_fit():
    assert ssim(A[..., :11, :11], B[..., :11, :11]).value < 1
    with pytest.raises(ValueError, match="nothing to compare"):
        ssim(A[..., :10, :], B[..., :10, :])
