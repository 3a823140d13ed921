"""What distinguishes each classic game, computed another way: targets, clipping, penalties, norms, schedules, rates."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.source import image_field
from elegan.errors import OptionError
from elegan.spec import Spec
from elegan.training.loop import Loop
from elegan.training.turns import batches_per_step
from elegan.zoo.sngan import Block, UpBlock
from tests.contract.checks import SOURCES
from tests.oracle.test_games import DIGITS, PLANE, built, layers

CLASSICS = ("lsgan", "wgan", "dragan", "sngan", "ragan")
exactly = {"rel": 1e-12, "abs": 1e-14}


def scored(name, n=6, **options):
    """A game on the plane in fp64 whose drawings are fixed; real samples, and the judge's logits of both in numpy."""
    game = built(name, PLANE, **{"z_dim": 3, **options}).double()
    real, fake = torch.randn(2, n, 2, dtype=torch.float64)
    game.sample = lambda n: fake
    return game, real, game.D(real).numpy(), game.D(fake).numpy()


def shown_to(player):
    """A list that fills with what a player is given."""
    given = []
    player.register_forward_pre_hook(lambda module, args: given.append(args[0].detach().clone()))
    return given


class Recording(Loop):
    """A loop that writes down who moved, and the largest weight of each player afterwards."""

    def advance(self, turn):
        terms = super().advance(turn)
        self.moves = [*getattr(self, "moves", []), (turn.players, largest(self.game.D), largest(self.game.G))]
        return terms


def largest(module):
    return max(float(p.detach().abs().max()) for p in module.parameters())


def trainable(name, data="vectors", rows=8, **options):
    torch.manual_seed(1)
    source = SOURCES[data]
    return Recording(zoo.build(name, source.spec, **options), Batches(source, rows=rows))


def test_defaults_are_those_of_the_papers():
    defaults = {name: zoo.describe(name).defaults() for name in CLASSICS}
    assert defaults["wgan"].items() >= {"n_critic": 5, "clip": 0.01, "lr": 5e-5}.items()
    assert defaults["dragan"]["gp"] == 10
    assert defaults["lsgan"]["targets"] == "binary"
    assert defaults["sngan"].items() >= dict(z_dim=128, width=256, judge_width=128, n_critic=5, lr=2e-4).items()
    betas = {name: [turn.optim.betas for turn in built(name, width=1).turns()] for name in CLASSICS if name != "wgan"}
    assert betas.pop("sngan") == [(0.0, 0.9)] * 2
    assert set(map(tuple, betas.values())) == {((0.5, 0.999),) * 2}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 40), (2, 9, 64), (1, 5, 5), (3, 33, 31)])
@pytest.mark.parametrize("name", CLASSICS)
def test_images_of_any_height_and_width(name, shape):
    game = built(name, Spec(real=image_field(np.zeros((4, *shape), np.uint8))), preset="tiny").eval()
    drawn = game.sample(3)
    assert drawn.shape == (3, *shape)
    assert drawn.abs().max() <= 1
    assert game.D(drawn).shape == (3,)


# -- lsgan ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("targets", "a", "b", "c"), [("binary", 0, 1, 1), ("pearson", -1, 1, 0)])
def test_lsgan_regresses_on_its_targets(targets, a, b, c):
    game, real, said, of_fake = scored("lsgan", width=1, targets=targets)
    judge = np.mean((said - b) ** 2) / 2 + np.mean((of_fake - a) ** 2) / 2
    assert game.d_loss(real)["adv"].item() == pytest.approx(judge, **exactly)
    assert game.g_loss()["adv"].item() == pytest.approx(np.mean((of_fake - c) ** 2) / 2, **exactly)


# -- wgan -------------------------------------------------------------------------------------------------------------


def test_wgan_is_a_difference_of_means():
    game, real, said, of_fake = scored("wgan", width=1)
    assert game.d_loss(real)["adv"].item() == pytest.approx(of_fake.mean() - said.mean(), **exactly)
    assert game.g_loss()["adv"].item() == pytest.approx(-of_fake.mean(), **exactly)


@pytest.mark.parametrize("data", ["vectors", "images"])
def test_wgan_clips_the_critic_after_each_of_its_moves_and_nothing_else(data):
    loop = trainable("wgan", data, z_dim=4, width=2)
    clip = 0.01
    assert largest(loop.game.D) > 2 * clip, "weights within the bound from the start would show nothing"
    for _ in range(3):
        loop.step()
    players, critic, generator = zip(*loop.moves, strict=True)
    assert players == ("D", "D", "D", "D", "D", "G") * 3
    assert max(critic) <= np.float32(clip)
    assert min(generator) > 2 * clip
    at_the_bound = torch.cat([p.detach().abs().flatten() for p in loop.game.D.parameters()]) == np.float32(clip)
    assert at_the_bound.float().mean() > 0.1


def test_wgan_moves_by_rmsprop():
    loop = trainable("wgan", z_dim=4, width=2, clip=0.3)  # by .01, four layers leave no gradient to speak of
    before = [p.detach().clone() for p in loop.game.G.parameters()]
    loop.step()  # its one move of the generator comes last, so gradients are still there
    for was, p in zip(before, loop.game.G.parameters(), strict=True):
        step = -5e-5 * p.grad / ((0.01 * p.grad.square()).sqrt() + 1e-8)
        torch.testing.assert_close(p.detach(), was + step)
        assert (p.detach() - was).abs().max() > 1e-4, "ten times the rate, as RMSprop begins"


# -- dragan -----------------------------------------------------------------------------------------------------------


def test_dragan_is_penalised_around_real_samples_only():
    game, real, *_ = scored("dragan", n=2_000, width=1, spread=0.3)
    given = shown_to(game.D)
    torch.manual_seed(3)
    terms = game.d_loss(real)
    around = given[-1]
    moved = (around - real) / (0.3 * real.numpy().std())
    assert float(moved.mean()) == pytest.approx(0, abs=0.05)
    assert float(moved.std()) == pytest.approx(1, abs=0.05)
    slopes = torch.func.vmap(torch.func.grad(lambda row: game.D(row[None])[0]))(around)  # (n, 2)
    wanted = 10 * np.mean((np.linalg.norm(slopes.numpy(), axis=1) - 1) ** 2)
    assert terms["gp"].item() == pytest.approx(wanted, rel=1e-10)
    game.sample = lambda n: torch.full((n, 2), 7.0, dtype=torch.float64)
    torch.manual_seed(3)
    elsewhere = game.d_loss(real)
    assert elsewhere["gp"].item() == terms["gp"].item(), "drawn samples change nothing in it"
    assert elsewhere["adv"].item() != terms["adv"].item()


def test_dragan_plays_the_first_game():
    game, real, said, of_fake = scored("dragan", width=1)
    yes, no = (lambda x: -np.log(1 / (1 + np.exp(-x)))), (lambda x: -np.log(1 / (1 + np.exp(x))))
    assert game.d_loss(real)["adv"].item() == pytest.approx(yes(said).mean() + no(of_fake).mean(), rel=1e-12)
    terms = game.g_loss()
    assert terms.keys() == {"adv"}
    assert terms["adv"].item() == pytest.approx(yes(of_fake).mean(), rel=1e-12)


# -- sngan ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [DIGITS, PLANE], ids=["images", "vectors"])
def test_sngan_gives_every_layer_of_the_judge_the_largest_singular_value_one(spec):
    game = built("sngan", spec, width=8, judge_width=8)
    found = [m for m in game.D.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    with torch.no_grad():
        for layer in found:
            layer.parametrizations.weight.original.mul_(3)  # what was estimated at the start is of no use any more
        for _ in range(300):  # one power iteration each
            game.D(torch.zeros(1, *spec.shape))
    game.D.eval()
    assert len(found) == (11 if spec is DIGITS else 4)
    for layer in found:
        assert np.linalg.svd(layer.weight.flatten(1).numpy())[1][0] == pytest.approx(1, rel=1e-3)
    assert not any(parametrize.is_parametrized(m) for m in game.G.modules())


def test_sngan_has_the_papers_residual_networks():
    colours = Spec(real=image_field(np.zeros((4, 3, 32, 32), np.uint8)))
    game = built("sngan", colours)
    sizes = {"G": [], "D": []}
    for name, blocks in (("G", game.G.blocks), ("D", game.D.blocks[:4])):
        for block in blocks:
            block.register_forward_hook(lambda m, args, out, name=name: sizes[name].append(tuple(out.shape[1:])))
    assert game.D(game.sample(2)).shape == (2,)
    assert sizes["G"] == [(256, 8, 8), (256, 16, 16), (256, 32, 32)]
    assert sizes["D"] == [(128, 16, 16), (128, 8, 8), (128, 8, 8), (128, 8, 8)]
    norm, conv, skip = ("BatchNorm2d", (256,)), ("Conv2d", (256, 256, 3, 3)), ("Conv2d", (256, 256, 1, 1))
    assert layers(game.G) == [
        ("Linear", (4 * 4 * 256, 128)), *[norm, conv, norm, conv, skip] * 3, norm, ("Conv2d", (3, 256, 3, 3)),
    ]  # fmt: skip
    weights = [tuple(m.weight.shape) for m in game.D.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    conv = (128, 128, 3, 3)
    assert weights == [
        (128, 3, 3, 3), conv, (128, 3, 1, 1), conv, conv, (128, 128, 1, 1), conv, conv, conv, conv, (1, 128),
    ]  # fmt: skip
    assert not any(isinstance(m, nn.BatchNorm2d) for m in game.D.modules())


def conv3(x, layer):
    return F.conv2d(x, layer.weight, layer.bias, padding=1)


@pytest.mark.parametrize(("into", "first", "down"), [(3, True, True), (4, False, True), (4, False, False)])
def test_sngan_blocks_of_the_judge(into, first, down):
    block = Block(into, 4, down=down, first=first).double()
    x = torch.randn(2, into, 6, 6, dtype=torch.float64)
    one, two, *skip = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    wanted = conv3(F.relu(conv3(x if first else F.relu(x), one)), two)
    wanted = wanted + (F.conv2d(x, skip[0].weight, skip[0].bias) if skip else x)  # resampled after it, as in the paper
    assert bool(skip) == down
    torch.testing.assert_close(block(x), F.avg_pool2d(wanted, 2) if down else wanted)


def test_sngan_blocks_of_the_generator():
    block = UpBlock(4, (7, 6)).double().eval()
    x = torch.randn(2, 4, 4, 3, dtype=torch.float64)
    norm, again = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in (norm, again):
        m.running_mean.normal_()
        m.running_var.uniform_(0.5, 2)
    one, two, skip = [m for m in block.modules() if isinstance(m, nn.Conv2d)]

    def up(x):
        return F.interpolate(x, (7, 6), mode="nearest")

    wanted = conv3(F.relu(again(conv3(up(F.relu(norm(x))), one))), two) + F.conv2d(up(x), skip.weight, skip.bias)
    torch.testing.assert_close(block(x), wanted)


def test_sngan_pools_by_a_sum():
    judge = built("sngan", width=4, judge_width=4).D.double().eval()
    x = torch.randn(3, 1, 28, 28, dtype=torch.float64)
    features = judge.blocks(x).numpy()
    assert features.shape == (3, 4, 7, 7)
    assert features.min() == 0, "a ReLU comes last"
    wanted = features.sum((2, 3)) @ judge.head.weight[0].numpy() + judge.head.bias.item()
    np.testing.assert_allclose(judge(x).numpy(), wanted)


def test_sngan_has_the_hinge_loss():
    game = built("sngan", PLANE, width=4, judge_width=4)
    game.D.forward = lambda x: 3 * x[:, 0]
    real, fake = torch.randn(2, 50, 2, dtype=torch.float64)
    game.sample = lambda n: fake
    said, of_fake = 3 * real[:, 0].numpy(), 3 * fake[:, 0].numpy()
    judge = np.maximum(0, 1 - said).mean() + np.maximum(0, 1 + of_fake).mean()
    assert game.d_loss(real)["adv"].item() == pytest.approx(judge, **exactly)
    assert game.g_loss()["adv"].item() == pytest.approx(-of_fake.mean(), **exactly)


def test_sngan_lets_both_rates_fall_linearly():
    game = built("sngan", PLANE, width=4, judge_width=4, lr=3e-4, judge_lr=6e-4)
    assert batches_per_step(game.turns()) == 5
    end = 100_000 * 64 * 5  # the paper's moves of the generator, at its batch
    for images, left in ((0, 1), (end // 4, 0.75), (end // 2, 0.5), (end, 0), (2 * end, 0)):
        game.images = images
        assert [turn.optim.lr for turn in game.turns()] == pytest.approx([6e-4 * left, 3e-4 * left])
    game = built("sngan", PLANE, width=4, judge_width=4, decay_images=0)
    game.images = end
    assert game.turns()[0].optim.lr == 2e-4


# -- ragan ------------------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


RELATIVISTIC = {  # what each side of the comparison adds: of the upper one's distances, of the lower one's
    "standard": (lambda d: -torch.log(sigmoid(d)), lambda d: -torch.log(1 - sigmoid(d))),
    "least-squares": (lambda d: (d - 1) ** 2, lambda d: (d + 1) ** 2),
    "hinge": (lambda d: (1 - d).clamp(min=0), lambda d: (1 + d).clamp(min=0)),
}


@pytest.mark.parametrize("loss", RELATIVISTIC)
def test_ragan_compares_each_side_with_the_mean_of_the_other(loss):
    game = built("ragan", PLANE, z_dim=3, width=1, loss=loss, spectral=False).double()
    real, fake = (torch.randn(7, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    game.sample = lambda n: fake
    above, below = RELATIVISTIC[loss]
    game.D.forward = lambda x: 3 * x[:, 0] * x[:, 1]
    scores, of_fake = game.D(real), game.D(fake)

    def by_hand(upper, lower):
        terms = [above(u - sum(lower) / 7) for u in upper], [below(v - sum(upper) / 7) for v in lower]
        return sum(terms[0]) / 7 + sum(terms[1]) / 7

    for found, wanted in ((game.d_loss, by_hand(scores, of_fake)), (game.g_loss, by_hand(of_fake, scores))):
        adv = found(real)["adv"]
        torch.testing.assert_close(adv, wanted)
        slopes = [torch.autograd.grad(value, (real, fake), retain_graph=True) for value in (adv, wanted)]
        torch.testing.assert_close(*slopes)  # through the means too
        assert min(float(slope.abs().max()) for slope in slopes[0]) > 0


def test_ragan_normalises_its_judge_unless_told_not_to():
    for spectral in (True, False):
        game = built("ragan", width=4, spectral=spectral)
        normalised = [parametrize.is_parametrized(m) for m in game.D.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
        assert normalised == [spectral] * 3
        assert not any(parametrize.is_parametrized(m) for m in game.G.modules())


# -- smoothing, noise on what the judge sees, two rates ---------------------------------------------------------------


@pytest.mark.parametrize("loss", ["minimax", "non-saturating"])
@pytest.mark.parametrize(("name", "half"), [("gan", 0.5), ("dcgan", 1.0)])
def test_smoothing_moves_the_target_of_real_samples_only(name, half, loss):
    spec = PLANE if name == "gan" else DIGITS
    wide = dict(widths=(5,), judge_widths=(4,)) if name == "gan" else dict(width=2, judge_norm=False)
    game, plain = (built(name, spec, z_dim=3, loss=loss, smooth=s, **wide).double() for s in (0.1, 0.0))
    real, fake = torch.randn(2, 6, *spec.shape, dtype=torch.float64)
    game.sample = plain.sample = lambda n: fake
    scores, of_fake = game.D(real), game.D(fake)
    target = torch.full_like(scores, 0.9)
    judge = F.binary_cross_entropy_with_logits(scores, target) + F.binary_cross_entropy(of_fake.sigmoid(), 0 * target)
    assert game.d_loss(real)["adv"].item() == pytest.approx(half * judge.item(), rel=1e-10)
    batch = (real,) if name == "dcgan" else ()
    assert game.g_loss(*batch)["adv"].item() == plain.g_loss(*batch)["adv"].item()


@pytest.mark.parametrize("name", ["gan", "dcgan"])
def test_smoothing_is_refused_where_it_means_nothing(name):
    with pytest.raises(OptionError, match="smooth is for the losses minimax and non-saturating, not hinge"):
        built(name, preset="tiny", loss="hinge", smooth=0.1)
    with pytest.raises(OptionError, match=r"smooth must be below 1, not 1\.0"):
        built(name, preset="tiny", smooth=1.0)
    loop = Loop(built(name, SOURCES["images"].spec, preset="tiny"), Batches(SOURCES["images"], rows=4))
    loop.steer({"smooth": 0.1})
    with pytest.raises(OptionError, match="smooth is for"):
        loop.steer({"loss": "hinge"})


@pytest.mark.parametrize(("name", "loss"), [("gan", "hinge"), ("dcgan", "hinge"), ("dcgan", "relativistic-average")])
def test_instance_noise_falls_linearly_on_all_that_the_judge_sees(name, loss):
    wide = dict(widths=(5,), judge_widths=(4,)) if name == "gan" else dict(width=2)
    game = built(name, loss=loss, instance_noise=0.8, noise_images=1_000, **wide)
    game.rows = 16
    real = torch.zeros(16, 1, 28, 28)
    game.sample = lambda n: torch.ones(16, 1, 28, 28)
    given = shown_to(game.D)
    game.d_loss(real)
    judged = [{"gan": [32], "dcgan": [16, 16]}[name], {"hinge": [16], "relativistic-average": [16, 16]}[loss]]
    assert [len(x) for x in given] == judged[0]
    for images, deviation in ((0, 0.8), (500, 0.4), (750, 0.2), (1_000, 0.0), (9_000, 0.0)):
        game.images = images
        for turn, count in ((game.d_loss, judged[0]), (game.g_loss, judged[1])):
            given.clear()
            turn(real) if turn == game.d_loss or name == "dcgan" else turn()
            assert [len(x) for x in given] == count
            for x in torch.cat(given).split(16):
                assert float(x.var()) == pytest.approx(deviation**2, rel=0.05)
                assert float(x.mean()) == pytest.approx(round(float(x.mean())), abs=0.03)
    assert not real.any(), "the batch is as it was"
    game.noise_images = 0
    game.images = 10**9
    assert float(game.seen(real).std()) == pytest.approx(0.8, rel=0.05)


def test_instance_noise_draws_nothing_when_there_is_none():
    for name in ("gan", "dcgan"):
        game = built(name, preset="tiny")
        state = torch.get_rng_state()
        x = torch.zeros(2, 1, 28, 28)
        assert game.seen(x) is x
        assert torch.equal(torch.get_rng_state(), state), "a run without noise is the run it was"


def test_dcgan_is_penalised_where_it_is_judged():
    game = built("dcgan", width=2, gamma=1.0, penalised=1.0, instance_noise=0.5)
    given = shown_to(game.D)
    game.d_loss(torch.zeros(6, 1, 28, 28))
    real, fake, both = given
    torch.testing.assert_close(both, torch.cat([real, fake]))
    assert real.any()


@pytest.mark.parametrize("name", ["gan", "dcgan", "wgan-gp", "sngan"])
def test_two_rates_reach_the_two_turns(name):
    options = zoo.settings(name, "tiny", {"k" if name == "gan" else "n_critic": 1} if name != "dcgan" else {}).options
    for judge_lr, wanted in ((None, 3e-3), (1e-2, 1e-2), (0.0, 0.0)):
        loop = trainable(name, "images", **{**options, "lr": 3e-3, "judge_lr": judge_lr})
        before = {n: p.detach().clone() for n, p in loop.game.named_parameters()}
        loop.step()  # one move each, by Adam, which begins by its rate in every weight
        moved = {
            player: max(float((p.detach() - before[n]).abs().max()) for n, p in named if n.startswith(player))
            for player in "DG"
            for named in [list(loop.game.named_parameters())]
        }
        assert moved == {"D": pytest.approx(wanted, rel=0.01), "G": pytest.approx(3e-3, rel=0.01)}


def test_gan_is_penalised_on_both_sides_where_it_is_judged():
    game, real, *_ = scored("gan", preset="vector", gamma=0.3, instance_noise=0.0)
    fake = game.sample(6)
    norms = []
    for x in (real, fake):
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(game.D(x).sum(), x)
        norms.append(float(slope.square().sum(1).mean()))
    terms = game.d_loss(real)
    assert terms["r1"].item() == pytest.approx(0.15 * norms[0], **exactly)
    assert terms["r2"].item() == pytest.approx(0.15 * norms[1], **exactly)
    plain, real, *_ = scored("gan", preset="vector")
    assert plain.d_loss(real).keys() == {"adv", "real", "fake", "right"}


def test_gan_lets_both_rates_fall_by_a_cosine():
    game = built("gan", PLANE, "vector", lr=1e-3, judge_lr=4e-3, decay=0.1, decay_images=1_000)
    for images, left in ((0, 1), (500, 0.55), (1_000, 0.1), (5_000, 0.1)):
        game.images = images
        judge, generator = game.turns()
        assert judge.optim.lr == pytest.approx(4e-3 * left)
        assert generator.optim.lr == pytest.approx(1e-3 * left)


def test_cgan_has_its_first_moment():
    game = built("cgan", width=4, beta1=0.25)
    assert {turn.optim.betas for turn in game.turns()} == {(0.25, 0.999)}
