"""Penalties against judges whose gradients are known by heart, per-sample Jacobians, and finite differences."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

from elegan import penalties
from elegan.penalties import (
    clip_,
    dragan,
    features_of,
    gradient_penalty,
    logits_of,
    r1,
    r1_r2,
    r2,
    spectral_norm,
    squared_gradient_norms,
)

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def linear(w):
    return lambda x: (x.flatten(1) * w.flatten()).sum(1)


def test_linear_judge_has_one_slope_everywhere():
    for shape in ((6,), (2, 3, 5)):
        w, real, fake = randn(*shape), randn(4, *shape), randn(4, *shape)
        norm = np.linalg.norm(w.numpy())
        assert gradient_penalty(linear(w), real, fake).item() == pytest.approx((norm - 1) ** 2, rel=1e-12)
        assert gradient_penalty(linear(w), real, fake, target=0.3).item() == pytest.approx((norm - 0.3) ** 2)
        assert dragan(linear(w), real).item() == pytest.approx((norm - 1) ** 2, rel=1e-12)
        assert r1(linear(w), real).item() == pytest.approx(norm**2, rel=1e-12)
        assert r2(linear(w), fake).item() == pytest.approx(norm**2, rel=1e-12)
        assert [p.item() for p in r1_r2(linear(w), real, fake)] == pytest.approx([norm**2] * 2, rel=1e-12)


def test_quadratic_judge_has_a_linear_gradient():
    A = randn(5, 5)
    A = A + A.T
    judge = lambda x: 0.5 * torch.einsum("bi,ij,bj->b", x, A, x)  # noqa: E731
    real, fake = randn(7, 5), 2 * randn(7, 5)

    def mean_square(x):
        return float(np.mean([np.sum((A.numpy() @ row) ** 2) for row in x.numpy()]))

    assert r1(judge, real).item() == pytest.approx(mean_square(real), rel=1e-12)
    both = r1_r2(judge, real, fake)
    assert [p.item() for p in both] == pytest.approx([mean_square(real), mean_square(fake)], rel=1e-12)
    for fraction, rows in ((0.5, 4), (0.25, 2), (0.01, 1)):  # round(3.5) is 4
        both = r1_r2(judge, real, fake, fraction=fraction)
        assert [p.item() for p in both] == pytest.approx([mean_square(real[:rows]), mean_square(fake[:rows])])


def convolutional(*, patches=False):
    head = [nn.Conv2d(4, 1, 2)] if patches else [nn.Flatten(), nn.Linear(4 * 5 * 4, 1)]
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Softplus(), *head).double()


@pytest.mark.parametrize("patches", [False, True])
def test_convolutional_judge_against_per_sample_jacobians(patches):
    D, x = convolutional(patches=patches), randn(3, 2, 5, 4)
    parameters = dict(D.named_parameters())
    slope = vmap(jacrev(lambda row: functional_call(D, parameters, (row[None],)).sum()))(x)
    expected = [float((s**2).sum()) for s in slope.detach().numpy()]
    leaf = x.clone().requires_grad_()
    np.testing.assert_allclose(squared_gradient_norms(D(leaf), leaf).detach(), expected, rtol=1e-10)
    assert r1(D, x).item() == pytest.approx(np.mean(expected), rel=1e-10)
    assert dragan(D, x, spread=0).item() == pytest.approx(np.mean((np.sqrt(expected) - 1) ** 2), rel=1e-10)
    assert gradient_penalty(D, x, x).item() == pytest.approx(np.mean((np.sqrt(expected) - 1) ** 2), rel=1e-10)


def test_joint_penalty_is_the_two_apart_and_its_gradient_is_the_finite_difference():
    D, real, fake = convolutional(), randn(4, 2, 5, 4), randn(4, 2, 5, 4)

    def total():
        first, second = r1_r2(D, real, fake)
        return first + 3 * second

    assert total().item() == pytest.approx((r1(D, real) + 3 * r2(D, fake)).item(), rel=1e-12)
    parameters = [p for p in D.parameters() if p.dim() > 1]
    gradients = torch.autograd.grad(total(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction, step = torch.randn_like(parameter), 1e-5
        with torch.no_grad():
            parameter += step * direction
        above = total().item()
        with torch.no_grad():
            parameter -= 2 * step * direction
        below = total().item()
        with torch.no_grad():
            parameter += step * direction
        assert (gradient * direction).sum().item() == pytest.approx((above - below) / (2 * step), rel=1e-6)


def test_several_inputs_and_labels():
    u, v = randn(3), randn(2)
    judge = lambda x, y, label: x @ u + (y @ v) * label  # noqa: E731
    x, y, label = randn(4, 3), randn(4, 2), torch.tensor([1, 2, 3, 0])
    U, V = (u**2).sum().item(), (v**2).sum().item()
    expected = [U + V * n**2 for n in (1, 2, 3, 0)]
    assert r1(judge, (x, y, label)).item() == pytest.approx(np.mean(expected))
    first, second = r1_r2(judge, (x, y, label), (y @ randn(2, 3), y, label.flip(0)), fraction=0.5)
    assert [first.item(), second.item()] == pytest.approx([np.mean(expected[:2]), np.mean([expected[3], expected[2]])])
    root = np.mean((np.sqrt(expected) - 1) ** 2)
    assert gradient_penalty(judge, (x, y, label), (x + 1, y + 1, label)).item() == pytest.approx(root)
    assert dragan(judge, (x, y, label)).item() == pytest.approx(root)


def test_interpolation_lies_between_with_one_weight_a_sample():
    seen = []

    def judge(x, y):
        seen.append((x.detach(), y.detach()))
        return x.sum((1, 2, 3)) + y.sum(1)

    n = 4000
    real, fake = torch.full((n, 1, 2, 3), 3.0), torch.full((n, 1, 2, 3), -1.0)
    gradient_penalty(judge, (real, real[:, 0, 0]), (fake, fake[:, 0, 0]))
    x, y = seen[0]
    alpha = (x[:, 0, 0, 0] + 1) / 4
    assert torch.allclose(x, (4 * alpha - 1)[:, None, None, None].expand_as(x))
    assert torch.allclose(y, (4 * alpha - 1)[:, None].expand_as(y))
    assert 0 <= alpha.min() < 0.01
    assert 0.99 < alpha.max() <= 1
    assert alpha.mean().item() == pytest.approx(0.5, abs=0.02)
    assert alpha.var().item() == pytest.approx(1 / 12, abs=0.005)


def test_dragan_looks_around_the_data_as_far_as_the_data_spread():
    seen = []
    real = 3 + 2 * torch.randn(200, 50)
    dragan(lambda x: seen.append(x.detach()) or x.sum(1), real, spread=0.25)
    noise = (seen[0] - real).flatten().double()
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(0.25 * real.double().std(correction=0).item(), rel=0.03)
    assert (noise**4).mean().item() / noise.var().item() ** 2 == pytest.approx(3, rel=0.1)  # normal, not uniform


def test_a_flat_judge_gives_finite_gradients():
    w = torch.zeros(3, requires_grad=True)
    for penalty in (
        gradient_penalty(linear(w), torch.ones(2, 3), torch.zeros(2, 3)),
        dragan(linear(w), torch.ones(2, 3)),
    ):
        assert penalty.item() == pytest.approx(1)
        assert torch.autograd.grad(penalty, w)[0].isfinite().all()


def test_penalties_reach_the_judge_and_never_the_samples():
    D = convolutional()
    real, fake = randn(2, 2, 5, 4).requires_grad_(), randn(2, 2, 5, 4).requires_grad_()
    both = sum(r1_r2(D, real, fake))
    for penalty in (r1(D, real), r2(D, fake), both, gradient_penalty(D, real, fake), dragan(D, real)):
        assert penalty.shape == ()
        penalty.backward()
        assert real.grad is None
        assert fake.grad is None
        assert D[0].weight.grad.abs().sum() > 0
        D.zero_grad()
    leaf = real.detach().requires_grad_()
    assert not squared_gradient_norms(D(leaf), leaf, create_graph=False).requires_grad


def test_low_precision_is_left_behind():
    w = randn(6)
    real, fake = torch.randn(4, 6).bfloat16(), torch.randn(4, 6).bfloat16()
    norm = w.norm().item()
    dtypes = []

    def judge(x):
        dtypes.append(nn.functional.linear(x, w.float()[None]).dtype)
        return linear(w.float())(x)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        for value in (
            r1(judge, real),
            *r1_r2(judge, real, fake),
            dragan(judge, real),
            gradient_penalty(judge, real, fake),
        ):
            assert value.dtype == torch.float32
        assert r1(judge, real).item() == pytest.approx(norm**2, rel=1e-5)
    assert set(dtypes) == {torch.float32}


def test_logits_and_features_of_what_judges_return():
    a, b, f = torch.zeros(2), torch.ones(2), torch.ones(3)
    assert logits_of(a) is a
    assert logits_of((a, [f])) is a
    assert logits_of([a, b])[1] is b
    assert [x is y for x, y in zip(logits_of([(a, [f]), (b, [f, f])]), (a, b), strict=True)] == [True, True]
    assert logits_of(([a, b], [[f], [f]]))[1] is b
    assert features_of((a, [f]))[0] is f
    assert features_of([(a, f), (b, f)])[1] is f
    for wrong in ((a, b, f), "a", None):
        with pytest.raises(TypeError, match="judge returns logits"):
            logits_of(wrong)
    with pytest.raises(TypeError, match="judge with features"):
        features_of(a)


def test_scores_of_several_judges_are_summed_and_features_ignored():
    u, v, x = randn(3), randn(3), randn(4, 3)
    judge = lambda x: [(x @ u, [x**3]), (torch.stack((x @ v, x @ v), 1), [x])]  # noqa: E731
    assert r1(judge, x).item() == pytest.approx(((u + 2 * v) ** 2).sum().item())


def test_clip_bounds_every_parameter_in_place():
    module = nn.Sequential(nn.Linear(20, 20), nn.BatchNorm1d(20))
    before = [p.detach().numpy().copy() for p in module.parameters()]
    places = [p.data_ptr() for p in module.parameters()]
    clip_(module, 0.05)
    for old, new, place in zip(before, module.parameters(), places, strict=True):
        np.testing.assert_array_equal(new.detach(), np.clip(old, np.float32(-0.05), np.float32(0.05)))
        assert new.data_ptr() == place
        assert new.requires_grad
    clip_(nn.Linear(2, 2, device="meta"), 0.1)  # no values: reading one raises


def test_spectral_norm_brings_every_layer_to_one():
    layers = [
        nn.Linear(6, 9),
        nn.Conv1d(3, 4, 3),
        nn.Conv2d(2, 5, 3),
        nn.Conv3d(2, 3, 2),
        nn.ConvTranspose1d(4, 3, 3),
        nn.ConvTranspose2d(4, 6, 3),
        nn.ConvTranspose3d(2, 3, 2),
        nn.Embedding(7, 5),
    ]
    module = nn.ModuleList([nn.Sequential(layer, nn.BatchNorm1d(2)) for layer in layers])
    for layer in layers:
        layer.weight.data.mul_(3)
    assert spectral_norm(module, iterations=200) is module
    for layer in layers:
        _ = layer.weight  # one pass in training mode
        weight = layer.weight.detach().numpy()
        if "Transpose" in type(layer).__name__:
            weight = weight.swapaxes(0, 1)
        largest = np.linalg.svd(weight.reshape(len(weight), -1), compute_uv=False)[0]
        assert largest == pytest.approx(1, abs=1e-4), layer
    names = [name for name, _ in module.named_parameters()]
    assert [name for name, _ in spectral_norm(module).named_parameters()] == names
    assert len(module[0][1].weight) == 2
    assert not hasattr(module[0][1], "parametrizations")


def test_public_names_are_documented():
    for name, item in vars(penalties).items():
        if callable(item) and getattr(item, "__module__", "") == penalties.__name__ and not name.startswith("_"):
            assert item.__doc__, name
