"""What distinguishes the games that infer something besides drawing (a class, a code, a latent), computed another way.

All in float64: a fixture makes it the default type, of nets and of noise alike.
"""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from elegan import zoo
from elegan.data.source import image_field, label_field, vector_field
from elegan.errors import DataError, OptionError
from elegan.spec import Spec
from elegan.zoo.ae import FORGET

RNG = np.random.default_rng(0)
PLANE = Spec(real=vector_field(RNG.normal(size=(32, 2)).astype(np.float32)))
LABEL = torch.tensor([2, 0, 1, 1, 2, 0])


def images(*shape, classes=3):
    pixels = np.zeros((6, *shape), np.uint8)
    return Spec(real=image_field(pixels, classes=classes), label=label_field(np.arange(6) % classes, ("a", "b", "c")))


SMALL = images(1, 12, 12)


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def built(name, spec=SMALL, **options):
    torch.manual_seed(1)
    game = zoo.build(name, spec, **zoo.settings(name, "tiny", options).options)
    for p in game.parameters():  # first weights are small: with larger ones no term is near a constant
        p.data += 0.1 * torch.randn_like(p)
    game.rows = 6
    return game


def real_of(game):
    return torch.randn(6, *game.spec.shape).clamp(-1, 1)


def inputs_of(player):
    """What a player is given from now on, call by call."""
    seen = []
    player.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    return seen


def at_seed(loss, *args, **kwargs):
    """A loss with the noise of one seed, so that two ways of computing see the same."""
    torch.manual_seed(5)
    return loss(*args, **kwargs)


def trained(terms):
    """The terms that train; the others are only logged."""
    return {n: t for n, t in terms.items() if t.requires_grad}


def assert_terms(terms, wanted):
    assert {n: t.item() for n, t in trained(terms).items()} == pytest.approx(
        {n: t.item() for n, t in trained(wanted).items()}, rel=1e-9, abs=1e-12
    )


def assert_same_gradient(loss, wanted, *modules):
    """Two scalars have one gradient, not all zero, in every parameter of some players."""
    for module in modules:
        parameters = list(module.parameters())
        one, other = (torch.autograd.grad(x, parameters, retain_graph=True, allow_unused=True) for x in (loss, wanted))
        assert any(g is not None and g.abs().max() > 1e-6 for g in one)
        for g, h in zip(one, other, strict=True):
            assert (g is None) == (h is None)
            if g is not None and h is not None:
                torch.testing.assert_close(g, h, rtol=1e-7, atol=1e-10)


def total(terms):
    return torch.stack(list(trained(terms).values())).sum()


def test_images_of_any_height_and_width():
    for name in ("acgan", "infogan", "vaegan", "ae"):
        for shape in ((3, 17, 40), (1, 5, 5), (2, 33, 31)):
            game = built(name, images(*shape)).eval()
            assert game.sample(3).shape == (3, *shape), name
            if "reconstruction" in game.tasks:
                assert game.reconstruct(torch.zeros(2, *shape)).shape == (2, *shape)


@pytest.mark.parametrize("name", ["infogan", "vaegan", "ae"])
def test_other_kinds_of_data_are_refused_in_a_line(name):
    with pytest.raises(DataError, match=f"{name} cannot take this data: it needs images or vectors"):
        zoo.build(name, Spec(real=label_field(np.arange(4), ("a", "b", "c", "d"))))


# -- acgan ------------------------------------------------------------------------------------------------------------


def acgan_likelihoods(game, x, label):
    """log P(S = real | x), log P(S = fake | x) and log P(C = label | x), each (B,), from probabilities."""
    said = game.D(x)
    source, classes = torch.sigmoid(said[:, 0]), torch.exp(said[:, 1:])
    classes = classes / classes.sum(1, keepdim=True)
    return source.log(), (1 - source).log(), classes[torch.arange(len(x)), label].log()


def test_acgan_players_agree_on_the_class_and_quarrel_over_the_source():
    game = built("acgan", loss="minimax", auxiliary=1.0, dropout=0.0)
    real, z = real_of(game), torch.randn(6, 4)
    game.noise = lambda n, truncation=None: z
    fake = game.sample(6, label=LABEL)
    real_real, _, class_real = acgan_likelihoods(game, real, LABEL)
    _, fake_fake, class_fake = acgan_likelihoods(game, fake, LABEL)
    l_s, l_c = real_real.mean() + fake_fake.mean(), class_real.mean() + class_fake.mean()  # Equations 2 and 3
    judge, generator = game.d_loss(real, LABEL), game.g_loss(LABEL)
    assert total(judge).item() == pytest.approx(-(l_s + l_c).item(), rel=1e-12)
    assert_same_gradient(total(judge), -(l_s + l_c), game.D)
    assert_same_gradient(total(generator), -(l_c - l_s), game.G)
    assert_terms(judge, {"adv": -l_s, "class": -class_real.mean(), "class_fake": -class_fake.mean()})
    assert_terms(generator, {"adv": fake_fake.mean(), "class": -class_fake.mean()})


def test_acgan_weighs_the_class_in_both_players_and_has_the_loss_that_lasts():
    game, real = built("acgan", auxiliary=0.25, dropout=0.0), torch.randn(6, 1, 12, 12)
    plain = built("acgan", auxiliary=1.0, dropout=0.0)
    for loss, args in (("d_loss", (real, LABEL)), ("g_loss", (LABEL,))):
        one, other = at_seed(getattr(game, loss), *args), at_seed(getattr(plain, loss), *args)
        assert_terms(one, {n: t * (1 if n == "adv" else 0.25) for n, t in other.items()})
    fake = at_seed(plain.sample, 6, label=LABEL)
    seems_real, _, _ = acgan_likelihoods(plain, fake, LABEL)
    assert at_seed(plain.g_loss, LABEL)["adv"].item() == pytest.approx(-seems_real.mean().item())


def test_acgan_tells_the_generator_the_class_and_the_judge_nothing():
    game = built("acgan")
    told = inputs_of(game.G)
    game.d_loss(real_of(game), LABEL)
    game.g_loss(LABEL)
    game.sample(6, label=1)
    game.sample(3000)
    for z, label in zip(told, (LABEL, LABEL, torch.ones(6)), strict=False):
        assert z.shape == (6, 4 + 3)
        assert torch.equal(z[:, 4:], torch.eye(3)[label.long()])
    assert told[3][:, 4:].mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert game.D(torch.zeros(2, 1, 12, 12)).shape == (2, 1 + 3)
    with pytest.raises(OptionError, match="--label 3 is no class"):
        game.sample(2, label=3)


# -- infogan ----------------------------------------------------------------------------------------------------------


def infogan_by_hand(game, given, said):
    """The players' terms and what is drawn with, from what G was given and what D returned for the drawing."""
    category, code = given[:, 4:7].argmax(1), given[:, 7:]
    assert torch.equal(given[:, 4:7], torch.eye(3)[category])
    logit, features = said
    logits, mean, log_std = game.Q(features).tensor_split([3, 5], 1)
    bound = {
        "category": -Categorical(logits=logits).log_prob(category).mean() * game.info,
        "code": -Normal(mean, log_std.exp()).log_prob(code).sum(1).mean() * game.info_code,
    }
    return torch.sigmoid(logit), bound


@pytest.mark.parametrize("spec", [SMALL, PLANE], ids=["images", "plane"])
def test_infogan_bounds_the_information_by_cross_entropy_and_gaussian_nats(spec):
    game = built("infogan", spec, info=0.7, info_code=0.3)
    real, given = real_of(game), inputs_of(game.G)
    torch.manual_seed(2)
    judge, generator = game.d_loss(real), game.g_loss()
    for terms, z in ((judge, given[0]), (generator, given[1])):
        assert z.shape == (6, 4 + 3 + 2)
        p, bound = infogan_by_hand(game, z, game.D(game.G(z)))
        adv = -p.log().mean()
        if terms is judge:
            adv = -torch.sigmoid(game.D(real)[0]).log().mean() - (1 - p).log().mean()
        assert_terms(terms, {"adv": adv, **bound})
        told = total(terms) - terms["adv"]
        assert_same_gradient(told, total(bound), game.Q, game.D.body, game.G)
        assert_same_gradient(terms["adv"], adv, game.D.head, game.D.body, game.G)


def test_infogan_moves_q_with_the_judge_and_each_at_its_rate():
    judge, generator = zoo.build("infogan", SMALL).turns()
    assert (judge.players, judge.loss.__name__, judge.optim.lr) == ("D Q", "d_loss", 2e-4)
    assert (generator.players, generator.loss.__name__, generator.optim.lr) == ("G", "g_loss", 1e-3)


def test_infogan_draws_codes_from_their_priors_and_holds_what_it_is_told_to():
    game = built("infogan").eval()
    given = inputs_of(game.G)
    game.sample(9000)
    game.sample(900, category=2)
    game.sample(900, code=(0.5,))
    game.sample(900, category=0, code=(-1.5, 0.25))
    game.sample(900, truncation=0.5)
    free, second, half, both, cut = (z.split([4, 3, 2], 1) for z in given)
    assert free[1].mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    assert free[2].abs().max() <= 1
    assert free[2].mean(0).tolist() == pytest.approx([0, 0], abs=0.02)
    assert free[2].var(0).tolist() == pytest.approx([1 / 3] * 2, abs=0.02)
    assert second[1].mean(0).tolist() == [0, 0, 1]
    assert float(second[2].std()) > 0.5
    assert (half[2][:, 0] == 0.5).all()
    assert float(half[2][:, 1].std()) > 0.5
    assert half[1].mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.06)
    assert torch.equal(both[2], torch.tensor([-1.5, 0.25]).expand(900, 2))
    assert both[1].mean(0).tolist() == [1, 0, 0]
    assert cut[0].abs().max() <= 0.5
    for wrong in (3, -1):
        with pytest.raises(OptionError, match=f"--category {wrong} is none: there are 3"):
            game.sample(2, category=wrong)
    for wrong in ((0.0, 0.0, 0.0), (math.nan,), (math.inf,)):
        with pytest.raises(OptionError, match="give up to 2 numbers"):
            game.sample(2, code=wrong)


def test_infogan_does_without_either_kind_of_code_but_not_without_both():
    for options, left in ((dict(codes=0), "category"), (dict(categories=0), "code")):
        game = built("infogan", PLANE, **options)
        assert set(game.g_loss()) == {"adv", left}
        assert game.sample(5).shape == (5, 2)
    with pytest.raises(OptionError, match="--category 0 is none: there are 0"):
        game.sample(2, category=0)
    with pytest.raises(OptionError, match="categories and codes cannot both be 0"):
        built("infogan", PLANE, categories=0, codes=0)


def test_infogan_codes_are_flags_of_the_command_line(cli, small):
    torch.set_default_dtype(torch.float32)
    run = ("--preset", "tiny", "--batch", "8", "--threads", "1", "--precision", "fp32", "--steps", "2")
    assert cli("train", "infogan", small, "--out", "run", *run).code == 0
    for k, flags in enumerate([["--category", "2"], ["--code=-1,0.5"], ["--category", "0", "--code", "0,1.5"]]):
        said = cli("sample", "run", "-n", "3", "--out", f"drawn{k}", *flags)
        assert (said.code, said.err) == (0, "")
    said = cli("sample", "run", "--category", "3")
    assert said.code == 2
    assert "--category 3 is none: there are 3, numbered from 0" in said.line
    assert "give up to 2 numbers" in cli("sample", "run", "--code", "0,0,0").line
    assert "--code" in cli("sample", "run", "--code", "left").line


# -- vaegan -----------------------------------------------------------------------------------------------------------


def unlikeness(one, other):
    """−log N(one | other, I) of each row without its constant, averaged."""
    constant = one.shape[1] * math.log(2 * math.pi) / 2
    return -(Normal(other, 1.0).log_prob(one).sum(1) + constant).mean()


@pytest.mark.parametrize("spec", [SMALL, PLANE], ids=["images", "plane"])
def test_vaegan_encoder_pays_for_its_prior_and_for_unlikeness_in_features(spec):
    game = built("vaegan", spec, gamma=0.3)
    real, decoded = real_of(game), inputs_of(game.G)
    terms = game.e_loss(real)
    mean, log_var = game.E(real).chunk(2, 1)
    deviation = torch.exp(log_var / 2)
    kl = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(1).mean()
    like = unlikeness(game.D.body(real), game.D.body(game.G(decoded[0])))
    assert_terms(terms, {"kl": kl, "like": like})
    assert_same_gradient(total(terms), kl + like, game.E)


@pytest.mark.parametrize("spec", [SMALL, PLANE], ids=["images", "plane"])
def test_vaegan_generator_weighs_likeness_by_gamma_and_deceives_on_both_drawings(spec):
    for loss in ("minimax", "non-saturating"):
        game = built("vaegan", spec, gamma=0.3, loss=loss)
        real, given = real_of(game), inputs_of(game.G)
        terms = game.g_loss(real)
        z, posterior = given
        p, p_again = (torch.sigmoid(game.D(game.G(code.detach()))[0]) for code in (z, posterior))
        like = unlikeness(game.D(real)[1], game.D(game.G(posterior.detach()))[1])
        wanted = {
            "like": 0.3 * like,
            "adv": (1 - p).log().mean() if loss == "minimax" else -p.log().mean(),
            "adv_again": (1 - p_again).log().mean() if loss == "minimax" else -p_again.log().mean(),
        }
        assert_terms(terms, wanted)
        assert_same_gradient(total(terms), total(wanted), game.G)


def test_vaegan_judge_tells_real_from_both_drawings():
    game = built("vaegan")
    real, given = real_of(game), inputs_of(game.G)
    terms = game.d_loss(real)
    seems, *drawn = (torch.sigmoid(game.D(x)[0]) for x in (real, *(game.G(z) for z in given[:2])))
    l_gan = seems.log().mean() + sum((1 - p).log().mean() for p in drawn)
    assert total(terms).item() == pytest.approx(-l_gan.item(), rel=1e-12)
    assert_same_gradient(total(terms), -l_gan, game.D.body, game.D.head)


def test_vaegan_gives_each_player_its_own_loss_and_gamma_to_the_generator_alone():
    game = zoo.build("vaegan", SMALL)
    turns = game.turns()
    assert game.loss == "non-saturating"
    assert [(t.players, t.loss.__name__) for t in turns] == [("E", "e_loss"), ("G", "g_loss"), ("D", "d_loss")]
    assert {(type(t.optim).__name__, t.optim.lr) for t in turns} == {("RMSprop", 3e-4)}
    one, other = built("vaegan", gamma=0.2), built("vaegan", gamma=0.4)
    real = real_of(one)
    for loss, weight in (("e_loss", 1), ("d_loss", 1), ("g_loss", 2)):
        terms = at_seed(getattr(one, loss), real)
        wanted = {n: t * (weight if n == "like" else 1) for n, t in terms.items()}
        assert_terms(at_seed(getattr(other, loss), real), wanted)


def test_vaegan_reconstructs_by_the_mean_of_the_posterior():
    game = built("vaegan", PLANE).eval()
    real = torch.randn(5, 2)
    torch.testing.assert_close(game.reconstruct(real), game.G(game.E(real)[:, : game.z_dim]))
    given = inputs_of(game.G)
    game.again(real.repeat(4000, 1))
    mean, log_var = game.E(real).chunk(2, 1)
    codes = given[0].view(4000, 5, -1)
    torch.testing.assert_close(codes.mean(0), mean, atol=0.1, rtol=0)
    torch.testing.assert_close(codes.std(0), torch.exp(log_var / 2), rtol=0.05, atol=0)


# -- ae ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SMALL, PLANE], ids=["images", "plane"])
def test_ae_reconstructs_by_squared_error(spec):
    game = built("ae", spec)
    real = real_of(game)
    terms = game.loss(real)
    squares = (game.G(game.E(real)) - real).square()
    assert_terms(terms, {"rec": squares.sum() / real.numel()})
    assert_same_gradient(terms["rec"], squares.mean(), game.E, game.G)
    torch.testing.assert_close(game.reconstruct(real), game.G(game.E(real)))


def test_ae_sees_a_corrupted_input_and_is_to_give_back_the_clean_one():
    for spec, wiped in ((SMALL, -1.0), (PLANE, 0.0)):
        game = built("ae", spec, corrupt=0.3)
        real = torch.rand(2000, *spec.shape) + 0.1
        encoded, decoded = inputs_of(game.E), inputs_of(game.G)
        terms = game.loss(real)
        gone = encoded[0] == wiped
        assert float(gone.double().mean()) == pytest.approx(0.3, abs=0.03)
        assert torch.equal(encoded[0][~gone], real[~gone])
        torch.testing.assert_close(terms["rec"], (game.G(decoded[0]) - real).square().mean())
        torch.testing.assert_close(game.reconstruct(real[:9]), game.G(game.E(real[:9])))
    assert not torch.equal(game.corrupted(real), game.corrupted(real)), "drawn anew each time"
    with pytest.raises(OptionError, match="corrupt must be below 1"):
        built("ae", corrupt=1.0)


def test_ae_follows_the_moments_of_its_codes():
    game, codes = built("ae", PLANE), []
    for _ in range(7):
        real = torch.randn(6, 2) * 3 + 1
        codes.append(game.E(real).detach().numpy())
        game.loss(real)
    every = np.concatenate(codes)
    np.testing.assert_allclose(game.mean.numpy(), every.mean(0), rtol=1e-9)
    np.testing.assert_allclose(game.covariance.numpy(), np.cov(every.T, bias=True), rtol=1e-9, atol=1e-12)
    assert float(game.fitted) == 7


def test_ae_forgets_codes_older_than_a_hundred_batches():
    game = built("ae", PLANE)
    batches = RNG.normal(size=(250, 6, game.z_dim)) + np.linspace(0, 5, 250)[:, None, None]
    weights = np.zeros(0)
    for k, batch in enumerate(batches):
        game.follow(torch.from_numpy(batch))
        new = max(1 / (k + 1), FORGET)
        weights = np.append(weights * (1 - new), new)
    mean = np.einsum("t,tbz->z", weights, batches) / 6
    away = batches - mean
    np.testing.assert_allclose(game.mean.numpy(), mean, rtol=1e-9)
    np.testing.assert_allclose(game.covariance.numpy(), np.einsum("t,tby,tbz->yz", weights, away, away) / 6, rtol=1e-9)
    assert FORGET == 0.01
    assert 1 / (weights**2).sum() == pytest.approx(190, abs=15), "an average of about so many batches"


def test_ae_draws_codes_with_the_moments_it_keeps():
    game = built("ae", PLANE).eval()
    root = np.array([[1.0, 0, 0, 0], [0.8, 0.3, 0, 0], [0, -0.5, 2, 0], [0, 0, 0, 0]])  # of rank 3
    game.mean.copy_(torch.tensor([1.0, -2, 0.5, 4]))
    game.covariance.copy_(torch.from_numpy(root @ root.T))
    given = inputs_of(game.G)
    game.sample(200_000)
    codes = given[0].numpy()
    np.testing.assert_allclose(codes.mean(0), game.mean.numpy(), atol=0.02)
    np.testing.assert_allclose(np.cov(codes.T), root @ root.T, atol=0.04)
    z = torch.eye(4)  # the root is symmetric, so that a sample does not hang on the signs of eigenvectors
    game.noise = lambda n, truncation=None: z
    game.sample(4)
    drawn = given[1] - game.mean
    torch.testing.assert_close(drawn, drawn.T)
    torch.testing.assert_close(drawn @ drawn, game.covariance)
