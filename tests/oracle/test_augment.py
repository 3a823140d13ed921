"""Augmentations against explicit loops in numpy, whose offsets are recovered from the pictures themselves, and against
scipy; and what is drawn against the distributions it is said to have.
"""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch.nn import functional as F

from elegan.augment import (
    AUGMENTATIONS,
    MOST,
    PRESETS,
    WARPS,
    Augment,
    colour,
    crops,
    cutout,
    flip,
    instance_noise,
    noise,
    overfitting,
    rotate,
    rotations,
    scale,
    scalings,
    translate,
    verdict,
    warp,
)
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
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_probability_zero_changes_nothing(name, channels):
    for x in (images(8, channels), images(8, channels, 7, 9).bfloat16()):
        for p in (0.0, 0, torch.tensor(0.0)):
            assert torch.equal(AUGMENTATIONS[name](x, p), x)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_rate_of_application(name):
    x = images(2000, 1, 8, 6)
    for p in (0.3, torch.tensor(0.3)):
        changed = (AUGMENTATIONS[name](x, p) != x).flatten(1).any(1).double().mean().item()
        # half of all flips are none, and so is a shift that is one and the same of two numbers, down and right
        stay = {"flip": 1 / 2, "translate": 1 / 4}.get(name, 0)
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
    x = images(2, 2, 3, 4, torch.float64).requires_grad_()

    def fixed(x):
        torch.manual_seed(3)
        return AUGMENTATIONS[name](x, 0.7)

    assert torch.autograd.gradcheck(fixed, x)
    assert torch.autograd.gradgradcheck(fixed, x)
    assert torch.autograd.gradgradcheck(lambda x: fixed(x**3), x)


def test_flip_mirrors_half():
    x = images(2000, 1, 2, 4)
    y = flip(x, 1.0)
    turned = (y != x).flatten(1).any(1)
    assert turned.double().mean().item() == pytest.approx(1 / 2, abs=0.035)
    np.testing.assert_array_equal(y[turned], x[turned].numpy()[..., ::-1])


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
    torch.manual_seed(1)
    listed = Augment("flip , colour")(x)
    torch.manual_seed(1)
    assert torch.equal(listed, colour(flip(x, MOST), MOST))
    assert torch.equal(Augment("full", 0.0)(x), x)
    assert repr(Augment("flip,colour")) == "Augment('flip,colour')"


def test_no_policy_is_nothing_at_all():
    x, nothing, state = images(4), Augment("", 0.3), torch.get_rng_state()
    assert nothing(x) is x
    assert nothing.state_dict() == {}
    assert nothing.terms(x, x).keys() == {"real", "fake", "right"}, "the judge's verdict, and nothing to follow"
    assert nothing.following(7) is None
    nothing.schedule(0.5)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name):
    preset, augment = PRESETS[name], Augment(name)
    assert augment.policy == preset.policy
    assert augment.strength.item() == pytest.approx(preset.strength)
    assert augment.adapts == preset.adapts == (name == "ada")
    assert Augment(name, 0.25).strength.item() == 0.25


def test_the_preset_of_zhao_et_al_is_theirs():
    assert PRESETS["diffaugment"].policy.split(",") == ["colour", "translate", "cutout"]


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


def test_wrong_names_strengths_kinds_and_shapes():
    with pytest.raises(OptionError, match=r"no augmentation 'color' in policy 'flip,color'\. Did you mean 'colour'\?"):
        Augment("flip,color")
    with pytest.raises(OptionError, match=r"no augmentation 'difaugment'.* Did you mean 'diffaugment'\?"):
        Augment("difaugment")
    with pytest.raises(OptionError, match=r"no augmentation 'ada' in policy 'ada,flip'"):
        Augment("ada,flip")
    with pytest.raises(OptionError, match=r"augmentation 'ada' is for images; this data is of kind vector\."):
        Augment("ada", kind="vector")
    Augment("", kind="vector")
    for strength in (-0.1, 0.81, 1.0, float("nan")):
        with pytest.raises(OptionError, match=r"probability from 0 to 0\.8"):
            Augment("flip", strength)
    for name in AUGMENTATIONS:
        with pytest.raises(ValueError, match=r"images \(B, C, H, W\), not a tensor of shape \(4, 7\)"):
            AUGMENTATIONS[name](torch.zeros(4, 7), 1.0)


@pytest.mark.parametrize("apart", [0.0, 0.7, -1.5])
def test_a_verdict_is_two_means_and_the_area_under_the_curve(apart):
    """N(m, 1) lies above N(0, 1) in Φ(m / √2) of all pairs."""
    real, fake = torch.randn(40_000, 1, requires_grad=True) + apart, torch.randn(40_000, 1, requires_grad=True)
    said = verdict(real, fake)
    assert said["right"].item() == pytest.approx(stats.norm.cdf(apart / 2**0.5), abs=0.01)
    assert (said["real"].item(), said["fake"].item()) == pytest.approx((apart, 0), abs=0.02)
    assert not any(term.requires_grad for term in said.values())


def test_a_verdict_counts_ties_by_half():
    assert verdict(torch.zeros(4), torch.zeros(4))["right"] == 0.5
    assert verdict(torch.tensor([1.0, 0.0, 0.0, -1.0]), torch.zeros(4))["right"] == 0.5
    assert verdict(torch.tensor([1, 0, 0, 2]), torch.zeros(4))["right"] == 0.75


@pytest.mark.parametrize("policy", ["", "light", "ada"])
def test_no_term_of_an_augmentation_trains(policy):
    terms = Augment(policy).terms(torch.randn(4, requires_grad=True), torch.randn(4, requires_grad=True))
    assert not any(term.requires_grad for term in terms.values())
    assert ("overfitting" in terms) == (policy == "ada")


def test_overfitting_is_the_mean_sign():
    assert overfitting(torch.tensor([2.0, 0.1, -3.0, 5.0])).item() == 0.5
    assert overfitting(torch.tensor([[0.0], [-1.0]], requires_grad=True)).item() == -0.5
    assert not overfitting(torch.ones(2, requires_grad=True)).requires_grad


def test_overfitting_beside_drawn_images_has_its_zero_in_the_middle():
    real, fake = torch.tensor([5.0, 5.2, 5.4, 4.4]), torch.tensor([[4.0], [4.0]])  # means 5 and 4
    assert overfitting(real, fake).item() == 0.5
    assert overfitting(fake, real).item() == -1
    for gain, shift in ((3.0, -20.0), (0.1, 7.0)):  # whatever a critic's unit and zero are
        assert overfitting(gain * real + shift, gain * fake + shift).item() == 0.5
    same = torch.randn(2, 20_000)
    assert abs(overfitting(*same).item()) < 0.03


def test_adaptation_is_exact_and_bounded():
    augment = Augment("flip", 0.25, over_images=512)
    strength = augment.strength
    overfit, guessing = torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor(0.25)  # means .75 and .25, about .6
    augment.adapt(overfit, 64)
    assert strength.item() == 0.25 + 64 / 512
    augment.adapt(overfit.mean(), torch.tensor(64))
    assert strength.item() == 0.5
    augment.adapt(guessing, 128)
    assert strength.item() == 0.25
    augment.adapt(guessing, 64, target=0.25)  # on target
    augment.adapt(torch.tensor(float("nan")), 64)
    assert strength.item() == 0.25
    for _ in range(3):
        augment.adapt(torch.tensor(1.0), 512)
    assert strength.item() == pytest.approx(MOST)
    augment.adapt(torch.tensor(-1.0), 5120)
    assert strength.item() == 0
    assert augment.strength is strength


def test_a_policy_that_adapts_follows_the_images_that_passed():
    augment = Augment("ada", over_images=1000)
    for images_seen, wanted in ((0, 0.0), (0, 0.0), (100, 0.1), (100, 0.1), (350, 0.35), (5000, MOST)):
        then = augment.following(images_seen)
        assert then is not None
        then(augment.terms(torch.ones(8), -torch.ones(8)))
        assert augment.strength.item() == pytest.approx(wanted)
    augment.follow(augment.terms(torch.ones(8), torch.ones(8)), 5300)  # a judge that guesses
    assert augment.strength.item() == pytest.approx(MOST - 0.3)


def test_a_schedule_is_capped_and_leaves_what_adapts_alone():
    fixed, adaptive = Augment("flip"), Augment("ada")
    for augment in (fixed, adaptive):
        augment.schedule(0.4)
    assert (fixed.strength.item(), adaptive.strength.item()) == (pytest.approx(0.4), 0)
    fixed.schedule(1.0)
    assert fixed.strength.item() == pytest.approx(MOST)
    then = fixed.following(100)
    assert then is None
    fixed.follow({}, 100)
    assert fixed.strength.item() == pytest.approx(MOST)


def test_strength_is_state():
    old, new = Augment("ada", over_images=1000), Augment("ada", 0.7)
    old.follow(old.terms(torch.ones(1), -torch.ones(1)), 250)
    new.load_state_dict(old.state_dict())
    assert new.strength.item() == 0.25
    assert new.images.item() == 250
    assert sorted(old.state_dict()) == ["images", "strength"]
    assert list(Augment("light").state_dict()) == ["strength"]
    assert list(old.parameters()) == []


def test_nothing_waits_for_the_device():
    x = torch.empty(4, 3, H, W, device="meta", requires_grad=True)  # no values: reading one raises
    for policy in ("full", "ada"):
        augment = Augment(policy, 0.5).to("meta")
        y = augment(instance_noise(x, 0.1))
        augment.adapt(overfitting(y, y), 4)
        augment.follow(augment.terms(y, y), 100)
        y.sum().backward()
        with pytest.raises(RuntimeError):
            y.sum().item()


# -- resampling -------------------------------------------------------------------------------------------------------


def seen_through(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`warp` of one image (C, H, W) by scipy, which counts pixels from the corner."""
    middle = (np.array(x.shape[1:]) - 1) / 2
    offset = matrix[:2, :2] @ -middle + matrix[:2, 2] + middle
    return np.stack([ndimage.affine_transform(c, matrix[:2, :2], offset, order=1, mode="reflect") for c in x])


@pytest.mark.parametrize(("height", "width"), [(16, 24), (9, 5), (1, 6), (2, 2)])
def test_warp_is_bilinear_with_mirrored_borders(height, width):
    x = images(12, 2, height, width, torch.float64)
    matrices = torch.eye(3, dtype=torch.float64).repeat(12, 1, 1)
    matrices[:, :2] += torch.randn(12, 2, 3, dtype=torch.float64) * torch.tensor([0.5, 0.5, 6.0], dtype=torch.float64)
    wanted = np.stack([seen_through(*pair) for pair in zip(x.numpy(), matrices.numpy(), strict=True)])
    np.testing.assert_allclose(warp(x, matrices), wanted, atol=1e-12)
    np.testing.assert_allclose(warp(x.float(), matrices.float()), wanted, atol=2e-5)


def test_warp_is_what_torch_samples():
    x, matrices = images(8), rotations(images(8), 1.0) @ scalings(images(8), 1.0)
    y, z = torch.meshgrid(torch.arange(H) - (H - 1) / 2, torch.arange(W) - (W - 1) / 2, indexing="ij")
    places = torch.einsum("bij,hwj->bhwi", matrices, torch.stack([y, z, torch.ones(H, W)], 2))
    grid = torch.stack([places[..., 1] * 2 / W, places[..., 0] * 2 / H], 3)
    wanted = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(warp(x, matrices), wanted, atol=2e-5, rtol=0)


def test_places_are_counted_in_full_precision():
    wide = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float64: torch.float64}
    for dtype, wanted in wide.items():
        x = torch.rand(2, 1, 300, 150).to(dtype)
        for draw in WARPS.values():
            assert draw(x, 1.0).dtype == wanted
            assert torch.equal(warp(x, draw(x, 0.0)), x)


def test_a_quarter_turn_is_exact_and_any_turn_is_about_the_centre():
    x = images(1, 2, 9, 9, torch.float64)
    quarter = torch.tensor([[[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]], dtype=torch.float64)
    np.testing.assert_allclose(warp(x, quarter)[0], np.rot90(x[0], 1, (1, 2)), atol=1e-12)
    turned = rotate(x.expand(50, -1, -1, -1), 1.0)
    torch.testing.assert_close(turned[:, :, 4, 4], x[:, :, 4, 4].expand(50, -1))


def test_rotations_keep_lengths_and_are_uniform():
    matrices = rotations(torch.zeros(4000, 1, 5, 9, dtype=torch.float64), 1.0)
    linear = matrices[:, :2, :2]
    torch.testing.assert_close(linear @ linear.mT, torch.eye(2, dtype=torch.float64).expand(4000, 2, 2))
    torch.testing.assert_close(torch.linalg.det(linear), torch.ones(4000, dtype=torch.float64))
    assert (matrices[:, :, 2] == torch.tensor([0, 0, 1])).all()
    angles = torch.atan2(linear[:, 0, 1], linear[:, 0, 0]) / np.pi
    assert stats.kstest(angles, stats.uniform(-1, 2).cdf).pvalue > 0.01


def test_scalings_are_log_normal_together_and_apart():
    matrices = scalings(torch.zeros(4000, 1, 5, 9, dtype=torch.float64), 1.0, 0.3)
    assert (matrices[:, [0, 1], [1, 0]] == 0).all()
    assert (matrices[:, :, 2] == torch.tensor([0, 0, 1])).all()
    down, right = -matrices[:, 0, 0].log2(), -matrices[:, 1, 1].log2()
    for drawn in ((down + right) / 2, (down - right) / 2):
        assert stats.kstest(drawn, stats.norm(0, 0.3).cdf).pvalue > 0.01
    assert abs(np.corrcoef(down + right, down - right)[0, 1]) < 0.05


def test_crops_lie_inside_anywhere_and_keep_their_shape():
    matrices = crops(torch.zeros(4000, 1, H, W, dtype=torch.float64), 1.0, 0.7)
    side = matrices[:, 0, 0]
    assert (matrices[:, 1, 1] == side).all()
    assert (matrices[:, [0, 1], [1, 0]] == 0).all()
    assert stats.kstest(-side.log2(), stats.halfnorm(scale=0.7).cdf).pvalue > 0.01
    placed = []
    for axis, size in enumerate((H, W)):
        shift, room = matrices[:, axis, 2], size / 2 * (1 - side)
        assert ((shift.abs() + side * size / 2) <= size / 2 + 1e-9).all()
        placed.append(shift / room)
        assert stats.kstest(placed[-1], stats.uniform(-1, 2).cdf).pvalue > 0.01
    assert abs(np.corrcoef(*placed)[0, 1]) < 0.05


def test_neighbours_that_interpolate_do_so_once():
    x = images(32, dtype=torch.float64)
    torch.manual_seed(4)
    y = Augment("flip,rotate,crop,colour,scale", 0.7)(x)
    torch.manual_seed(4)
    p = torch.tensor(0.7)
    flipped = flip(x, p)
    turned, cropped = rotations(flipped, p), crops(flipped, p)
    both = torch.einsum("bij,bjk->bik", turned, cropped)
    torch.testing.assert_close(y, scale(colour(warp(flipped, both), p), p))


def test_a_crop_after_a_turn_is_the_part_of_the_turned_image():
    """The order of the policy: to see a corner of the turned picture is not to turn the corner of it."""
    x = images(1, 1, 8, 8, torch.float64)
    quarter = torch.tensor([[[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]], dtype=torch.float64)
    corner = torch.tensor([[[0.5, 0, -2], [0, 0.5, -2], [0, 0, 1]]], dtype=torch.float64)  # the upper left quarter
    torch.testing.assert_close(warp(x, quarter @ corner), warp(warp(x, quarter), corner))
    assert (warp(x, corner @ quarter) - warp(warp(x, quarter), corner)).abs().max() > 0.1


@pytest.mark.parametrize("name", ["noise", "colour"])
def test_samples_are_treated_apart(name):
    x = torch.zeros(400, 2, 6, 5, dtype=torch.float64)
    changed = AUGMENTATIONS[name](x, 0.5) - x
    assert len({tuple(row) for row in changed.flatten(1).tolist() if any(row)}) == pytest.approx(200, abs=45)


def test_noise_is_normal_of_a_half_normal_deviation():
    added = noise(torch.full((2000, 3, 8, 8), 0.5, dtype=torch.float64), 1.0, 0.3) - 0.5
    deviations = added.flatten(1).std(1)
    assert stats.kstest(deviations, stats.halfnorm(scale=0.3).cdf).pvalue > 0.01
    whitened = (added / deviations.view(-1, 1, 1, 1)).flatten()
    assert float((whitened.abs() < 1).double().mean()) == pytest.approx(0.6827, abs=0.005)
    assert abs(np.corrcoef(whitened[0::2], whitened[1::2])[0, 1]) < 0.02
