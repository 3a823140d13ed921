"""What distinguishes each game, computed another way: its losses, first weights, and the tutorials' nets by layer."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from elegan import zoo
from elegan.data.source import image_field, label_field, vector_field
from elegan.game import cosine
from elegan.spec import Spec
from elegan.zoo.cyclegan import CycleGAN
from elegan.zoo.r3gan import Block

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 255, (32, 1, 28, 28), dtype=np.uint8)
LABELS = np.arange(32) % 10
DIGITS = Spec(real=image_field(IMAGES, classes=10), label=label_field(LABELS, tuple("0123456789")))
PLANE = Spec(real=vector_field(RNG.normal(size=(32, 2)).astype(np.float32)))
PAIR = Spec(a=image_field(IMAGES, stream="a"), b=image_field(IMAGES, stream="b"))


def built(name, spec=DIGITS, preset="none", **options):
    torch.manual_seed(1)
    game = zoo.build(name, spec, **zoo.settings(name, preset, options).options).requires_grad_(False)
    game.rows = 6
    return game


def layers(module, kinds=(nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout)):
    """The layers of a net in the order of their definition: (kind, shape of the weight or share dropped)."""
    found = [m for m in module.modules() if isinstance(m, kinds)]
    return [(type(m).__name__, m.p if isinstance(m, nn.Dropout) else tuple(m.weight.shape)) for m in found]


# -- the tutorials' nets ----------------------------------------------------------------------------------------------


def test_gan_mlp_is_the_tutorials_net():
    game = built("gan", preset="mlp")
    assert layers(game.G) == [
        ("Linear", (256, 100)), ("Linear", (512, 256)), ("Linear", (1024, 512)), ("Linear", (784, 1024)),
    ]  # fmt: skip
    assert layers(game.D) == [("Linear", (512, 784)), ("Linear", (256, 512)), ("Linear", (1, 256))]
    slopes = {m.negative_slope for m in game.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.2}
    assert game.turns()[0].optim == game.turns()[1].optim
    assert (game.turns()[0].optim.lr, game.turns()[0].optim.betas) == (2e-4, (0.5, 0.999))


def test_gan_mlp_bn_is_the_tutorials_net():
    game = built("gan", preset="mlp-bn")
    assert layers(game.G) == [
        ("Linear", (128, 100)), ("BatchNorm1d", (128,)), ("Linear", (256, 128)), ("BatchNorm1d", (256,)),
        ("Linear", (784, 256)),
    ]  # fmt: skip
    hidden = [m for m in game.G.modules() if isinstance(m, nn.Linear)][:-1]
    assert all(m.bias is None for m in hidden)
    assert layers(game.D) == [
        ("Linear", (256, 784)), ("Dropout", 0.3), ("Linear", (128, 256)), ("Dropout", 0.3), ("Linear", (1, 128)),
    ]  # fmt: skip
    assert game.turns()[0].optim.lr == 1e-4


def test_gan_conv_is_the_tutorials_net_with_upsampling():
    game = built("gan", preset="conv")
    assert layers(game.G) == [
        ("Linear", (256 * 49, 100)), ("Conv2d", (128, 256, 3, 3)), ("Conv2d", (128, 128, 3, 3)),
        ("Conv2d", (64, 128, 3, 3)), ("Conv2d", (1, 64, 3, 3)),
    ]  # fmt: skip
    assert game.sample(3).shape == (3, 1, 28, 28)
    assert layers(game.D)[0] == ("Linear", (512, 784))


@pytest.mark.parametrize(("side", "base"), [(28, 7), (32, 8)])
def test_dcgan_tutorial_is_the_tutorials_net(side, base):
    spec = Spec(real=image_field(np.zeros((4, 3, side, side), np.uint8)))
    game = built("dcgan", spec, preset="tutorial")
    assert layers(game.G, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)) == [
        ("Linear", (256 * base * base, 100)), ("Conv2d", (128, 256, 5, 5)), ("ConvTranspose2d", (128, 64, 5, 5)),
        ("ConvTranspose2d", (64, 3, 5, 5)),
    ]  # fmt: skip
    assert sum(isinstance(m, nn.BatchNorm2d) for m in game.G.modules()) == 3
    assert layers(game.D) == [
        ("Conv2d", (64, 3, 5, 5)), ("Dropout", 0.3), ("Conv2d", (128, 64, 5, 5)), ("Dropout", 0.3),
        ("Linear", (1, 128 * base * base)),
    ]  # fmt: skip
    assert game.sample(2).shape == (2, 3, side, side)


def test_dcgan_begins_with_its_papers_weights():
    game = built("dcgan", width=64)
    convolutions = [m.weight for m in game.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert all(float(w.mean()) == pytest.approx(0, abs=2e-3) for w in convolutions)
    assert all(float(w.std()) == pytest.approx(0.02, rel=0.1) for w in convolutions)
    gains = torch.cat([m.weight for m in game.modules() if isinstance(m, nn.BatchNorm2d)])
    assert float(gains.mean()) == pytest.approx(1, abs=0.01)
    assert float(gains.std()) == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 40), (2, 9, 64), (1, 5, 5), (3, 33, 31)])
@pytest.mark.parametrize("name", ["dcgan", "wgan-gp", "vae", "r3gan"])
def test_images_of_any_height_and_width(name, shape):
    spec = Spec(real=image_field(np.zeros((4, *shape), np.uint8)))
    game = built(name, spec, preset="tiny")
    game.eval()
    assert game.sample(3).shape == (3, *shape)


# -- losses -----------------------------------------------------------------------------------------------------------


def test_gan_is_half_the_binary_cross_entropy_for_the_judge():
    game = built("gan", PLANE, z_dim=3, widths=(5,), judge_widths=(4,)).double()
    real = torch.randn(6, 2, dtype=torch.float64)
    game.noise = lambda n, truncation=None: torch.linspace(-1, 1, n * 3, dtype=torch.float64).view(n, 3)
    p_real, p_fake = torch.sigmoid(game.D(real)), torch.sigmoid(game.D(game.sample(6)))
    ones, zeros = torch.ones(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    judge = (F.binary_cross_entropy(p_real, ones) + F.binary_cross_entropy(p_fake, zeros)) / 2
    assert game.d_loss(real)["adv"].item() == pytest.approx(judge.item(), rel=1e-12)
    assert game.g_loss()["adv"].item() == pytest.approx(F.binary_cross_entropy(p_fake, ones).item(), rel=1e-12)


def test_vae_has_the_evidence_bound_of_a_diagonal_gaussian():
    game = built("vae", PLANE, z_dim=3, width=4, sigma=0.3).double()
    real = torch.randn(4096, 2, dtype=torch.float64)
    mean, log_var = game.E(real).chunk(2, 1)
    seen = []
    game.G.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    terms = game.loss(real)
    posterior = torch.distributions.Normal(mean, torch.exp(log_var / 2))
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    kl = torch.distributions.kl_divergence(posterior, prior).sum(1).mean()
    assert terms["kl"].item() == pytest.approx(kl.item(), rel=1e-10)
    likelihood = torch.distributions.Normal(game.G(seen[0]), 0.3).log_prob(real).sum(1).mean()
    constant = 2 * (math.log(0.3) + 0.5 * math.log(2 * math.pi))
    assert terms["rec"].item() == pytest.approx(-likelihood.item() - constant, rel=1e-10)
    drawn = (seen[0] - mean) / torch.exp(log_var / 2)  # z = mean + deviation · noise
    assert float(drawn.std()) == pytest.approx(1, abs=0.03)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.03)


def test_cgan_projects_on_the_label_or_sees_it_as_channels():
    label = torch.tensor([3, 0, 9, 3])
    x = torch.randn(4, 1, 28, 28, dtype=torch.float64)
    judge = built("cgan", width=4).double().D.eval()
    features = judge.body.body(x)
    told = (judge.body.projection.weight[label] * features).sum(1) / math.sqrt(features.shape[1])
    torch.testing.assert_close(judge(x, label), judge.body.head(features)[:, 0] + told)
    channels = built("cgan", width=4, condition="channels").double().D
    seen = []
    channels.body.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    channels(x, label)
    assert seen[0].shape == (4, 11, 28, 28)
    for row, k in enumerate(label.tolist()):
        assert [float(seen[0][row, 1 + c].mean()) for c in range(10)] == [float(c == k) for c in range(10)]


def test_cyclegan_pool_gives_back_earlier_drawings_half_of_the_time():
    game = CycleGAN(PAIR, width=2, blocks=1, layers=1, pool=10)
    torch.manual_seed(0)
    shown = torch.cat([game.pooled("a", torch.full((2, 1, 28, 28), float(k))) for k in range(200)])[:, 0, 0, 0]
    fresh = torch.arange(200).repeat_interleave(2).float()
    assert torch.equal(shown[:10], fresh[:10]), "until it is full, the pool only takes"
    later = shown[10:] != fresh[10:]
    assert 0.42 < later.float().mean() < 0.58
    assert (shown <= fresh).all(), "nothing is shown before it was drawn"
    assert int(game.filled_a) == 10
    assert int(game.filled_b) == 0


# -- r3gan ------------------------------------------------------------------------------------------------------------


def test_r3gan_begins_with_fixed_up_weights():
    game = built("r3gan", widths=(256, 128), blocks=2)
    blocks = [m for m in game.G.modules() if isinstance(m, Block)]
    assert len(blocks) == 4
    for block in blocks:
        assert not block.out.weight.any()
        assert block.out.bias is None
        for layer in (block.into, block.mix):
            wanted = math.sqrt(2 / 1.04) * 4**-0.25 / math.sqrt(layer.weight[0].numel())
            assert float(layer.weight.std()) == pytest.approx(wanted, rel=0.03)
        assert block.mix.groups == block.mix.in_channels // 16
        assert block.into.out_channels == 2 * block.into.in_channels


def test_schedules_are_half_a_cosine_then_constant():
    assert [cosine(2.0, 1.0, images, 100) for images in (0, 50, 100, 1000)] == pytest.approx([2, 1.5, 1, 1])
    assert cosine(2.0, 1.0, 25, 100) == pytest.approx(1.5 + math.sqrt(0.5) / 2)
    assert cosine(2.0, 1.0, 0, 0) == 1.0
    game = built("r3gan", PLANE, preset="tiny", augment="")
    game.images = game.burn_in_images // 2
    assert game.turns()[0].optim.lr == pytest.approx((game.lr + game.lr_end) / 2)
    assert game.turns()[0].optim.betas == (0.0, pytest.approx((game.beta2 + game.beta2_end) / 2))


def test_r3gan_weighs_both_penalties_by_half_of_gamma_now():
    game = built("r3gan", PLANE, preset="tiny", augment="", penalised=1.0).double()
    real = torch.randn(6, 2, dtype=torch.float64)
    fake = torch.randn(6, 2, dtype=torch.float64)
    game.sample = lambda n, label=None: fake
    game.images = game.burn_in_images
    terms = game.d_loss(real)
    for name, x in (("r1", real), ("r2", fake)):
        slopes = torch.func.vmap(torch.func.grad(lambda row: game.D(row[None])[0]))(x)
        wanted = game.gamma_end / 2 * slopes.square().sum(1).mean()
        assert terms[name].item() == pytest.approx(wanted.item(), rel=1e-10)
    gap = game.D(real) - game.D(fake)
    assert terms["adv"].item() == pytest.approx(-torch.log(torch.sigmoid(gap)).mean().item(), rel=1e-10)


# -- noise ------------------------------------------------------------------------------------------------------------


def test_truncated_noise_is_a_truncated_normal():
    from scipy.stats import truncnorm

    game = built("gan", PLANE, z_dim=50)
    z = game.noise(4000, truncation=1.2).double()
    assert z.shape == (4000, 50)
    assert float(z.abs().max()) <= 1.2
    assert float(z.var()) == pytest.approx(truncnorm.var(-1.2, 1.2), rel=0.01)
    shares = [float((z < q).double().mean()) for q in (-0.8, 0.0, 0.5)]
    assert shares == pytest.approx([truncnorm.cdf(q, -1.2, 1.2) for q in (-0.8, 0.0, 0.5)], abs=5e-3)
