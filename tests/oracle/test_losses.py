"""Losses against the papers' formulas written out in numpy with probabilities, and gradients against closed forms."""

import numpy as np
import pytest
import torch

from elegan import losses
from elegan.losses import LOSSES

torch.set_num_threads(1)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def log_d(a):  # log D(x)
    return np.log(sigmoid(a))


def log_not_d(a):  # log(1 − D(x))
    return np.log(1 - sigmoid(a))


def mean(a):
    return sum(a.ravel().tolist()) / a.size


JUDGES = {
    "minimax": lambda r, f: -(mean(log_d(r)) + mean(log_not_d(f))),
    "non-saturating": lambda r, f: -(mean(log_d(r)) + mean(log_not_d(f))),
    "least-squares": lambda r, f: 0.5 * mean((r - 1) ** 2) + 0.5 * mean(f**2),
    "wasserstein": lambda r, f: -(mean(r) - mean(f)),
    "hinge": lambda r, f: -mean(np.minimum(0, -1 + r)) - mean(np.minimum(0, -1 - f)),
    "relativistic-pairing": lambda r, f: -mean(np.log(sigmoid(r - f))),
    "relativistic-average": lambda r, f: -mean(log_d(r - mean(f))) - mean(log_not_d(f - mean(r))),
}
GENERATORS = {
    "minimax": lambda r, f: mean(log_not_d(f)),
    "non-saturating": lambda r, f: -mean(log_d(f)),
    "least-squares": lambda r, f: 0.5 * mean((f - 1) ** 2),
    "wasserstein": lambda r, f: -mean(f),
    "hinge": lambda r, f: -mean(f),
    "relativistic-pairing": lambda r, f: -mean(np.log(sigmoid(f - r))),
    "relativistic-average": lambda r, f: -mean(log_d(f - mean(r))) - mean(log_not_d(r - mean(f))),
}
SHAPES = [(7,), (5, 1, 3, 4)]


def logits(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0.3, 1.7, shape))


@pytest.fixture(params=SHAPES, ids=str)
def pair(request):
    return logits(*request.param, seed=1), logits(*request.param, seed=2)


def test_the_table_is_complete():
    assert set(LOSSES) == set(JUDGES) == set(GENERATORS)
    assert {name for name, loss in LOSSES.items() if loss.relativistic} == {
        "relativistic-pairing",
        "relativistic-average",
    }


@pytest.mark.parametrize("name", LOSSES)
def test_values_are_the_papers(name, pair):
    real, fake = pair
    loss = LOSSES[name]
    seen = real if loss.relativistic else None
    assert loss.judge(real, fake).item() == pytest.approx(JUDGES[name](real.numpy(), fake.numpy()), rel=1e-12)
    assert loss.generator(seen, fake).item() == pytest.approx(GENERATORS[name](real.numpy(), fake.numpy()), rel=1e-12)
    assert loss.judge(real, fake).shape == loss.generator(seen, fake).shape == ()


@pytest.mark.parametrize("name", LOSSES)
def test_several_judges_are_summed(name):
    reals = [logits(4, seed=1), logits(4, 1, 2, 2, seed=2)]
    fakes = [logits(4, seed=3), logits(4, 1, 2, 2, seed=4)]
    loss = LOSSES[name]
    expected_judge = sum(JUDGES[name](r.numpy(), f.numpy()) for r, f in zip(reals, fakes, strict=True))
    expected_generator = sum(GENERATORS[name](r.numpy(), f.numpy()) for r, f in zip(reals, fakes, strict=True))
    for kind in (list, tuple):
        assert loss.judge(kind(reals), kind(fakes)).item() == pytest.approx(expected_judge, rel=1e-12)
        assert loss.generator(kind(reals), kind(fakes)).item() == pytest.approx(expected_generator, rel=1e-12)
    with pytest.raises(ValueError, match="zip"):
        loss.judge(reals, fakes[:1])


# Derivatives by real and by fake logits of a batch of n, from pencil and paper
N = 6
GRADIENTS = {
    "minimax": (lambda r, f: (sigmoid(r) - 1) / N, lambda r, f: sigmoid(f) / N),
    "non-saturating": (lambda r, f: (sigmoid(r) - 1) / N, lambda r, f: sigmoid(f) / N),
    "least-squares": (lambda r, f: (r - 1) / N, lambda r, f: f / N),
    "wasserstein": (lambda r, f: 0 * r - 1 / N, lambda r, f: 0 * f + 1 / N),
    "hinge": (lambda r, f: np.where(r < 1, -1, 0) / N, lambda r, f: np.where(f > -1, 1, 0) / N),
    "relativistic-pairing": (lambda r, f: (sigmoid(r - f) - 1) / N, lambda r, f: (1 - sigmoid(r - f)) / N),
    "relativistic-average": (
        lambda r, f: (sigmoid(r - mean(f)) - 1 - mean(sigmoid(f - mean(r)))) / N,
        lambda r, f: (1 - mean(sigmoid(r - mean(f))) + sigmoid(f - mean(r))) / N,
    ),
}
GENERATOR_GRADIENTS = {
    "minimax": lambda r, f: -sigmoid(f) / N,
    "non-saturating": lambda r, f: (sigmoid(f) - 1) / N,
    "least-squares": lambda r, f: (f - 1) / N,
    "wasserstein": lambda r, f: 0 * f - 1 / N,
    "hinge": lambda r, f: 0 * f - 1 / N,
    "relativistic-pairing": lambda r, f: (sigmoid(f - r) - 1) / N,
    "relativistic-average": lambda r, f: (sigmoid(f - mean(r)) - 1 - mean(sigmoid(r - mean(f)))) / N,
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_the_closed_forms(name):
    real, fake = logits(N, seed=5).requires_grad_(), logits(N, seed=6).requires_grad_()
    r, f = real.detach().numpy(), fake.detach().numpy()
    by_real, by_fake = torch.autograd.grad(LOSSES[name].judge(real, fake), (real, fake))
    np.testing.assert_allclose(by_real, GRADIENTS[name][0](r, f), rtol=1e-12)
    np.testing.assert_allclose(by_fake, GRADIENTS[name][1](r, f), rtol=1e-12)
    (by_fake,) = torch.autograd.grad(LOSSES[name].generator(real, fake), fake)
    np.testing.assert_allclose(by_fake, GENERATOR_GRADIENTS[name](r, f), rtol=1e-12)


def test_smoothing_moves_the_target_of_real_samples_only():
    real, fake, target = logits(9, seed=1), logits(9, seed=2), 0.9
    r, f = real.numpy(), fake.numpy()
    expected = -mean(target * log_d(r) + (1 - target) * log_not_d(r)) - mean(log_not_d(f))
    for judge in (losses.non_saturating_judge, losses.minimax_judge):
        assert judge(real, fake, smooth=0.1).item() == pytest.approx(expected, rel=1e-12)
        assert judge(real, fake, 0.0).item() == LOSSES["minimax"].judge(real, fake).item()


def test_relativistic_losses_see_only_differences():
    real, fake = logits(8, seed=1), logits(8, seed=2)
    for name in ("relativistic-pairing", "relativistic-average"):
        for side in LOSSES[name][:2]:
            assert side(real + 5, fake + 5).item() == pytest.approx(side(real, fake).item(), rel=1e-12)


def test_relativistic_pairing_pairs_rows():
    with pytest.raises(ValueError, match=r"\(4,\) with \(4, 1\)"):
        losses.relativistic_pairing_judge(logits(4), logits(4, 1))
    with pytest.raises(ValueError, match="real logits"):
        LOSSES["relativistic-pairing"].generator(None, logits(4))


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite_and_precision_is_float32(name):
    real, fake = (torch.tensor([90.0, -90.0, 3.0], dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
    for side in LOSSES[name][:2]:
        loss = side(real, fake)
        assert loss.dtype == torch.float32
        (gradient,) = torch.autograd.grad(loss, fake)
        assert loss.isfinite()
        assert gradient.isfinite().all()
    assert LOSSES[name].judge(real.double(), fake.double()).dtype == torch.float64


def test_distances():
    x, y = logits(3, 2, 4, seed=1), logits(3, 2, 4, seed=2)
    d = [a - b for a, b in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)]
    assert losses.l1(x, y).item() == pytest.approx(sum(map(abs, d)) / 24, rel=1e-12)
    assert losses.l2(x, y).item() == pytest.approx(sum(a * a for a in d) / 24, rel=1e-12)
    assert losses.l1(x.bfloat16(), y.bfloat16()).dtype == torch.float32
    for distance in (losses.l1, losses.l2):
        with pytest.raises(ValueError, match="shapes must be the same"):
            distance(x, y[:1])


def test_feature_matching_sums_layers_of_nested_judges():
    shapes = [[(2, 3), (2, 5, 4, 4)], [(2, 7)]]
    real, fake = ([[logits(*s, seed=seed + sum(s)) for s in judge] for judge in shapes] for seed in (10, 20))
    expected = sum(
        np.abs(r.numpy() - f.numpy()).sum() / np.prod(s)
        for rs, fs, ss in zip(real, fake, shapes, strict=True)
        for r, f, s in zip(rs, fs, ss, strict=True)
    )
    assert losses.feature_matching(real, fake).item() == pytest.approx(expected, rel=1e-12)
    assert losses.feature_matching(real[1][0], fake[1][0]).item() == pytest.approx(
        losses.l1(real[1][0], fake[1][0]).item()
    )
    with pytest.raises(ValueError, match="zip"):
        losses.feature_matching(real, fake[:1])


def test_feature_matching_teaches_the_fake_side_only():
    real, fake = logits(4, 3, seed=1).requires_grad_(), logits(4, 3, seed=2).requires_grad_()
    losses.feature_matching([real], [fake]).backward()
    assert real.grad is None
    np.testing.assert_allclose(fake.grad, np.sign((fake - real).detach().numpy()) / 12)


def test_mean_feature_matching_compares_batch_means_of_every_layer():
    rng = np.random.default_rng(5)
    real = [rng.normal(size=(6, 4)), rng.normal(size=(6, 2, 3))]
    fake = [rng.normal(size=(6, 4)), rng.normal(size=(6, 2, 3))]
    expected = sum(((r.sum(0) / 6 - f.sum(0) / 6) ** 2).sum() for r, f in zip(real, fake, strict=True))
    sides = [[torch.tensor(a, requires_grad=True) for a in side] for side in (real, fake)]
    value = losses.mean_feature_matching(*sides)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    value.backward()
    assert all(r.grad is None for r in sides[0])
    assert all(f.grad is not None for f in sides[1])
    shuffled = [f.detach()[torch.randperm(6)] for f in sides[1]]
    assert losses.mean_feature_matching(sides[0], shuffled).item() == pytest.approx(expected, rel=1e-12)
