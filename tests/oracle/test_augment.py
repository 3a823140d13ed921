"""Augmentations against explicit loops in numpy, whose offsets are recovered from the pictures themselves."""

import numpy as np
import pytest
import torch

from elegan.augment import AUGMENTATIONS, Augment, colour, cutout, flip, instance_noise, overfitting, translate
from elegan.errors import OptionError

torch.set_num_threads(1)
H, W = 16, 24


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def images(n=64, channels=3, height=H, width=W, dtype=torch.float32):
    """Pictures of distinct values, none of them zero, from −1 to 1."""
    values = torch.linspace(0.1, 1, n * channels * height * width, dtype=torch.float64)
    signs = torch.where(torch.rand(len(values)) < 0.5, -1.0, 1.0)
    return (values[torch.randperm(len(values))] * signs).view(n, channels, height, width).to(dtype)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_probability_zero_changes_nothing(name, channels):
    x = images(8, channels)
    for p in (0.0, 0, torch.tensor(0.0)):
        assert torch.equal(AUGMENTATIONS[name](x, p), x)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_rate_of_application(name):
    x = images(2000, 1, 8, 6)
    for p in (0.3, torch.tensor(0.3)):
        changed = (AUGMENTATIONS[name](x, p) != x).flatten(1).any(1).double().mean().item()
        stay = 1 / 9 if name == "translate" else 0  # a shift by (0, 0) is one of nine
        assert changed == pytest.approx(0.3 * (1 - stay), abs=0.035)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_input_is_unaltered_dtype_kept_and_draws_repeat(name):
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        x = images(16, 3, dtype=dtype)
        kept = x.clone()
        torch.manual_seed(5)
        first = AUGMENTATIONS[name](x, 0.5)
        torch.manual_seed(5)
        assert torch.equal(AUGMENTATIONS[name](x, 0.5), first)
        assert not torch.equal(AUGMENTATIONS[name](x, 0.5), first)
        assert torch.equal(x, kept)
        assert first.dtype == dtype
        assert first.shape == x.shape


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_gradients_once_and_twice(name):
    x = images(3, 2, 4, 5, torch.float64).requires_grad_()

    def fixed(x):
        torch.manual_seed(3)
        return AUGMENTATIONS[name](x, 0.7)

    assert torch.autograd.gradcheck(fixed, x)
    assert torch.autograd.gradgradcheck(fixed, x)
    assert torch.autograd.gradgradcheck(lambda x: fixed(x**3), x)


def test_flip():
    x = images()
    np.testing.assert_array_equal(flip(x, 1.0), x.numpy()[..., ::-1])


@pytest.mark.parametrize("share", [1 / 8, 0.3])
def test_translate_is_a_shift_with_zeros(share):
    x = images(600)
    y = translate(x, 1.0, share)
    reach = {size: round(share * size) for size in (H, W)}
    drawn = set()
    for before, after in zip(x.numpy(), y.numpy(), strict=True):
        # pixel values are distinct: find where the middle of the picture went
        _, row, column = np.argwhere(after == before[0, H // 2, W // 2])[0]
        down, right = row - H // 2, column - W // 2
        drawn.add((int(down), int(right)))
        expected = np.zeros_like(before)
        for i in range(H):
            for j in range(W):
                if 0 <= i - down < H and 0 <= j - right < W:
                    expected[:, i, j] = before[:, i - down, j - right]
        np.testing.assert_array_equal(after, expected)
    assert {down for down, _ in drawn} == set(range(-reach[H], reach[H] + 1))
    assert {right for _, right in drawn} == set(range(-reach[W], reach[W] + 1))


@pytest.mark.parametrize("share", [1 / 2, 0.2])
def test_cutout_blanks_one_box_centred_on_any_pixel(share):
    x = images(800)
    y = cutout(x, 1.0, share).numpy()
    height, width = round(share * H), round(share * W)
    corners = set()
    for before, after in zip(x.numpy(), y, strict=True):
        blank = (after == 0).all(0)
        np.testing.assert_array_equal(after, np.where(blank, 0, before))
        rows, columns = np.flatnonzero(blank.any(1)), np.flatnonzero(blank.any(0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        assert blank.sum() == (bottom - top) * (right - left)  # a full rectangle
        assert bottom - top == height or top == 0 or bottom == H
        assert right - left == width or left == 0 or right == W
        assert bottom - top <= height
        assert right - left <= width
        corners.add((int(bottom if top == 0 else top + height), int(right if left == 0 else left + width)))
    # the box's lower edge, were it not cut, for centres 0 … size − 1
    assert {b for b, _ in corners} == {c - height // 2 + height for c in range(H)}
    assert {r for _, r in corners} == {c - width // 2 + width for c in range(W)}


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_colour_is_brightness_then_saturation_then_contrast(channels):
    x = images(400, channels, dtype=torch.float64)
    drawn = []
    for before, after in zip(x.numpy(), colour(x, 1.0).numpy(), strict=True):
        grey = before.mean(0, keepdims=True)
        # three unknowns from what each step leaves alone: contrast from the grey picture, brightness from the mean,
        # saturation from the distance to grey
        contrast = ((after.mean(0) - after.mean()) / (grey[0] - grey.mean())).flat[0]
        brightness = after.mean() - before.mean()
        saturation = 1.0
        if channels > 1:
            saturation = ((after - after.mean(0)) / (before - grey)).flat[0] / contrast
        bright = before + brightness
        grey = bright.mean(0, keepdims=True)
        saturated = grey + saturation * (bright - grey)
        expected = saturated.mean() + contrast * (saturated - saturated.mean())
        np.testing.assert_allclose(after, expected, rtol=1e-9, atol=1e-12)
        drawn.append((brightness, saturation, contrast))
    for draws, (low, high) in zip(np.array(drawn).T, ((-0.5, 0.5), (0, 2), (0.5, 1.5)), strict=True):
        if channels == 1 and high == 2:
            continue
        near = 0.03 * (high - low)
        assert low <= draws.min() < low + near
        assert high - near < draws.max() <= high
        assert draws.mean() == pytest.approx((low + high) / 2, abs=2 * near)


def test_draws_of_samples_and_factors_are_independent():
    x = images(1, 3).expand(3000, -1, -1, -1)
    left = flip(x, 0.5)[:, 0, 0, 0] == x[0, 0, 0, 0]
    pairs = torch.corrcoef(torch.stack((left[:-1], left[1:])).double())[0, 1]
    assert abs(pairs) < 0.07
    y = colour(x, 1.0).double()
    grey = y.mean(1)
    contrast, brightness = grey.std((1, 2)), y.mean((1, 2, 3))
    saturation = (y - grey[:, None]).std((1, 2, 3)) / contrast
    off_diagonal = torch.corrcoef(torch.stack((contrast, brightness, saturation))) - torch.eye(3)
    assert off_diagonal.abs().max() < 0.07


def test_chain_follows_its_policy():
    x = images(32)
    chain = Augment("cutout, flip", strength=0.5)
    torch.manual_seed(1)
    y = chain(x)
    torch.manual_seed(1)
    assert torch.equal(y, flip(cutout(x, 0.5), 0.5))
    assert torch.equal(Augment("", 1.0)(x), x)
    assert torch.equal(Augment(strength=0.0)(x), x)
    assert torch.equal(Augment("flip")(x), x.flip(-1))
    assert repr(Augment("flip,colour")) == "Augment('flip,colour')"


@pytest.mark.parametrize("shape", [(20_000, 2), (600, 3, 8, 6)])
def test_instance_noise_is_normal_and_independent(shape):
    x = torch.full(shape, 3.0, dtype=torch.float64, requires_grad=True)
    y = instance_noise(x, 0.4)
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], torch.ones(shape, dtype=torch.float64))
    noise = y.detach() - 3
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.4, rel=0.02)
    assert float((noise.abs() < 0.4).double().mean()) == pytest.approx(0.6827, abs=0.01)
    assert abs(torch.corrcoef(noise.flatten()[: 2 * 14_400].view(-1, 2).T)[0, 1]) < 0.05
    assert (x == 3).all()
    assert instance_noise(x.bfloat16(), 0.4).dtype == torch.bfloat16


def test_instance_noise_of_no_deviation_draws_nothing():
    x, state = torch.ones(3, 2), torch.get_rng_state()
    assert instance_noise(x, 0.0) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_wrong_names_strengths_and_shapes():
    with pytest.raises(OptionError, match=r"no augmentation 'color' in policy 'flip,color'\. Did you mean 'colour'\?"):
        Augment("flip,color")
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match="probability"):
            Augment(strength=strength)
    for name in AUGMENTATIONS:
        with pytest.raises(ValueError, match=r"images \(B, C, H, W\), not a tensor of shape \(4, 7\)"):
            AUGMENTATIONS[name](torch.zeros(4, 7), 1.0)


def test_overfitting_is_the_mean_sign():
    assert overfitting(torch.tensor([2.0, 0.1, -3.0, 5.0])).item() == 0.5
    assert overfitting(torch.tensor([[0.0], [-1.0]], requires_grad=True)).item() == -0.5
    assert not overfitting(torch.ones(2, requires_grad=True)).requires_grad


def test_adaptation_is_exact_and_bounded():
    augment = Augment("flip", strength=0.25)
    strength = augment.strength
    overfit, guessing = torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor(0.25)  # means .75 and .25, about .6
    augment.adapt(overfit, 64, over_images=512)
    assert strength.item() == 0.25 + 64 / 512
    augment.adapt(overfit.mean(), 64, over_images=512)
    assert strength.item() == 0.5
    augment.adapt(guessing, 128, over_images=512)
    assert strength.item() == 0.25
    augment.adapt(guessing, 64, target=0.25)  # on target
    augment.adapt(torch.tensor(float("nan")), 64)
    assert strength.item() == 0.25
    augment.adapt(torch.tensor(1.0), 250_000)  # half of the default 500,000
    assert strength.item() == 0.75
    for _ in range(3):
        augment.adapt(torch.tensor(1.0), 512, over_images=512)
    assert strength.item() == 1
    augment.adapt(torch.tensor(-1.0), 5120, over_images=512)
    assert strength.item() == 0
    assert augment.strength is strength


def test_strength_is_state():
    old, new = Augment(strength=0.0), Augment(strength=1.0)
    old.adapt(torch.tensor(1.0), 125_000)
    new.load_state_dict(old.state_dict())
    assert new.strength.item() == 0.25
    assert list(old.state_dict()) == ["strength"]
    assert list(old.parameters()) == []


def test_nothing_waits_for_the_device():
    x = torch.empty(4, 3, H, W, device="meta", requires_grad=True)  # no values: reading one raises
    augment = Augment().to("meta")
    y = augment(instance_noise(x, 0.1))
    augment.adapt(overfitting(y), 4)
    y.sum().backward()
    with pytest.raises(RuntimeError):
        y.sum().item()
