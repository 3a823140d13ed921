"""The duality gap: nothing at an equilibrium, closed forms where one side cannot move, and less after training."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.source import Source, image_field, vector_field
from elegan.data.sources import open_data
from elegan.errors import OptionError
from elegan.game import SGD, Adam, Game, Turn
from elegan.losses import minimax_generator, minimax_judge, wasserstein_generator, wasserstein_judge
from elegan.metrics import duality_gap as room
from elegan.metrics.duality_gap import duality_gap
from elegan.nn.mlp import MLPJudge
from elegan.spec import Spec
from elegan.training.loop import train


def normal(rows: int, seed: int, mean: float = 0.0) -> Source:
    points = (np.random.default_rng(seed).normal(size=(rows, 2)) + np.array([mean, 0])).astype(np.float32)
    field = vector_field(np.array([[-1.0, -1.0], [1.0, 1.0]]))  # a codec that changes nothing
    return Source("normal", Spec(real=field), {"real": points}, "points of N(0, I)")


class Known(Game):
    """A generator of N(shift, I), and a judge that begins undecided."""

    def __init__(self, spec, *, z_dim: int = 2, lr: float = 1e-3):
        super().__init__(spec)
        self.G = nn.Linear(2, 2)
        self.D = MLPJudge((2,), [16])
        with torch.no_grad():
            self.G.weight.copy_(torch.eye(2))
            self.G.bias.zero_()
            self.D.head.weight.zero_()
            self.D.head.bias.zero_()

    def turns(self):
        adam = Adam(self.lr, betas=(0.0, 0.9))
        return [Turn("D", self.d_loss, optim=adam), Turn("G", self.g_loss, optim=adam)]

    def d_loss(self, real):
        return {
            "adv": minimax_judge(self.D(real), self.D(self.sample(self.rows))),
            "other": self.D(real).mean() * 0 + 7,
        }

    def g_loss(self):
        return {"adv": minimax_generator(self.D(self.sample(self.rows)))}

    def sample(self, n):
        return self.G(self.noise(n))


class Straight(Known):
    """The Wasserstein game of a linear judge and a generator that only shifts, by plain gradient steps."""

    def __init__(self, spec, *, z_dim: int = 2, lr: float = 0.1):
        super().__init__(spec, z_dim=z_dim, lr=lr)
        self.D = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Flatten(0))

    def turns(self):
        return [
            Turn("D", self.d_loss, repeat=3, optim=SGD(self.lr)),
            Turn("G", self.g_loss, optim=SGD(self.lr), then=self.only_shifts),
        ]

    def only_shifts(self, terms):
        self.G.weight.copy_(torch.eye(2))

    def d_loss(self, real):
        return {"adv": wasserstein_judge(self.D(real), self.D(self.sample(self.rows)))}

    def g_loss(self):
        return {"adv": wasserstein_generator(self.D(self.sample(self.rows)))}


@pytest.fixture(scope="module")
def ring() -> tuple[Batches, Batches]:
    return Batches(open_data("ring"), rows=128), Batches(open_data("ring", split="test"), rows=128)


def stable(spec: Spec) -> Game:
    torch.manual_seed(0)
    return zoo.build("gan", spec, **zoo.settings("gan", "stable", {}, "ring", "vector").options)


def test_at_the_equilibrium_there_is_nothing_to_gain():
    train_on, test_on = Batches(normal(20_000, 0), rows=256), Batches(normal(20_000, 1), rows=256)
    found = duality_gap(Known(train_on.spec), train_on, test_on)
    assert found.worst_generator == pytest.approx(-2 * math.log(2), abs=1e-6), "an undecided judge moves nobody"
    assert found.worst_judge == pytest.approx(-2 * math.log(2), abs=0.003)
    assert abs(found.gap.value) < 0.003
    low, high = found.gap.interval()
    assert high - low < 0.004


def test_away_from_it_there_is():
    train_on, test_on = Batches(normal(20_000, 0, 1.5), rows=256), Batches(normal(20_000, 1, 1.5), rows=256)
    found = duality_gap(Known(train_on.spec, lr=1e-2), train_on, test_on)
    divergence = judged_best(1.5)
    assert found.worst_generator == pytest.approx(-2 * math.log(2), abs=1e-6)
    assert found.worst_judge == pytest.approx(divergence, abs=0.03)
    assert found.gap.value == pytest.approx(divergence + 2 * math.log(2), abs=0.03)


def judged_best(apart: float) -> float:
    """max_D V of N(δ, 1) against N(0, 1): 2 JS − 2 log 2, by integration. The best logit is δx − δ²/2."""
    x = np.linspace(-10, 12, 200_001)
    logit = apart * x - apart**2 / 2
    p, q = (np.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (apart, 0.0))
    return float(np.trapezoid(-p * np.logaddexp(0, -logit) - q * np.logaddexp(0, logit), x))


def test_a_linear_game_is_played_as_arithmetic_says():
    """V = w·(m − b); k gradient steps of one player alone add k lr (m − b) to w, or k lr w to b. G begins at b = 0."""
    train_on, test_on = Batches(normal(20_000, 0, 2.0), rows=500), Batches(normal(20_000, 1, 2.0), rows=500)
    game = Straight(train_on.spec)
    with torch.no_grad():
        game.D[0].weight.copy_(torch.tensor([[0.5, -0.25]]))
    w, m, b = np.array([0.5, -0.25]), np.array([2.0, 0.0]), np.zeros(2)
    found = duality_gap(game, train_on, test_on, moves=4)
    grown = 4 * game.lr
    assert found.worst_judge == pytest.approx((w + grown * (m - b)) @ (m - b), abs=0.1)
    assert found.worst_generator == pytest.approx(w @ (m - b - grown * w), abs=0.03)
    assert found.gap.value == pytest.approx(found.worst_judge - found.worst_generator, abs=1e-9)
    assert found.moves == 4


def test_training_closes_it(ring):
    game = stable(ring[0].spec)
    untrained = duality_gap(game, *ring, moves=100)
    for _ in train(game, ring[0], 400):
        pass
    trained = duality_gap(game, *ring, moves=100)
    assert untrained.gap.value > 1
    assert 0 < trained.gap.value < 0.15
    assert trained.gap.interval()[1] < untrained.gap.interval()[0]
    assert trained.worst_judge < 0, "what cross entropy can be"


def test_the_game_and_the_callers_randomness_are_as_they_were(ring):
    game = zoo.build("sngan", ring[0].spec, **zoo.settings("sngan", "tiny", {}, "ring", "vector").options)
    game.requires_grad_(False)
    game.D.eval()
    game.step, game.images, game.rows = 7, 900, 5
    before = copy.deepcopy(game.state_dict())
    modes = {name: module.training for name, module in game.named_modules()}
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with torch.no_grad():
        found = duality_gap(game, *ring, moves=3)
    assert (torch.rand(2) == expected).all()
    after = game.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert modes == {name: module.training for name, module in game.named_modules()}
    assert not any(p.requires_grad or p.grad is not None for p in game.parameters())
    assert (game.step, game.images, game.rows) == (7, 900, 5)
    again = duality_gap(game, *ring, moves=3)
    assert (again.gap.influences[0] == found.gap.influences[0]).all(), "a seed is a gap"
    assert duality_gap(game, *ring, moves=3, seed=1).gap.value != found.gap.value
    with torch.enable_grad():
        one, other = (room._answered(game, "D", 0.01, ring[0], 2, seed).state_dict() for seed in (0, 1))
    assert any(not torch.equal(one[name], other[name]) for name in one), "players, too, answer by the seed"


def test_a_rate_that_has_fallen_to_nothing_counts_as_it_began(ring):
    """Else the players could not answer, and any game would look finished."""
    game = zoo.build("sngan", ring[0].spec, decay_images=1_000, width=16, judge_width=16, n_critic=1, lr=1e-2)
    game.step, game.images = 50, 1_000
    assert {turn.optim.lr for turn in game.turns()} == {0.0}
    still = duality_gap(game, *ring, moves=1).gap.value
    assert duality_gap(game, *ring, moves=60).gap.value > still + 0.1


def test_values_are_read_on_the_held_out_batches(ring):
    found = duality_gap(stable(ring[0].spec), *ring, moves=2)
    assert found.gap.influences[0].shape == (room.READINGS,)
    assert found.gap.value == pytest.approx(found.gap.influences[0].mean(), abs=1e-12)
    far = Batches(normal(300, 3, 50.0), rows=128)
    game = Known(far.spec)
    near = Batches(normal(300, 4), rows=128)
    with torch.no_grad():
        game.D.head.weight.fill_(0.1)
    assert duality_gap(game, near, far, moves=1).worst_judge != pytest.approx(
        duality_gap(game, near, near, moves=1).worst_judge, abs=0.05
    )


def test_the_player_who_stands_still_is_a_fixed_function():
    """A judge's BatchNorm stays as it is while the generator moves, and no dropout is in the values."""
    pictures = np.random.default_rng(0).integers(0, 256, (64, 1, 16, 16), dtype=np.uint8)
    source = Source("pictures", Spec(real=image_field(pictures)), {"real": pictures}, "noise")
    batches = Batches(source, rows=16)
    game = zoo.build("dcgan", source.spec, z_dim=4, width=4, dropout=0.3)
    game.step, game.images = 7, 900
    seen: list[dict] = []
    ways: list[bool] = []
    noise: list[list[torch.Tensor]] = []
    plain = room._readings

    def reading(other, *rest):
        for side, at_ease in (("D", True), ("G", False)):
            other.get_submodule(side).register_forward_hook(lambda m, *_, e=at_ease: ways.append(m.training != e))
        noise.append([])
        other.G.register_forward_hook(lambda m, given, out, kept=noise[-1]: kept.append(given[0]))
        assert (other.step, other.images) == (9, 900 + 2 * 16), "schedules stand where the game does"
        seen.append({name: value.clone() for name, value in other.state_dict().items()})
        return plain(other, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_readings", reading)
        duality_gap(game, batches, batches, moves=2)
    assert ways
    assert all(ways), "the judge in eval mode, the generator as it trains"
    assert all(torch.equal(one, other) for one, other in zip(*noise, strict=True)), "both values are of the same noise"
    assert len({tuple(z.flatten().tolist()) for z in noise[0]}) == room.READINGS, "and each batch of its own"
    first, (judge_moved, generator_moved) = game.state_dict(), seen
    assert all(torch.equal(generator_moved[n], first[n]) for n in first if n.startswith("D."))
    assert any(not torch.equal(generator_moved[n], first[n]) for n in first if n.startswith("G."))
    assert any("running" in n for n in first if n.startswith("D.")), "which has such statistics"
    weights = {name for name, _ in game.named_parameters()}
    assert all(torch.equal(judge_moved[n], first[n]) for n in weights if n.startswith("G."))
    assert any(not torch.equal(judge_moved[n], first[n]) for n in weights if n.startswith("D."))


TWO = ["acgan", "cgan", "dcgan", "dragan", "gan", "lsgan", "r3gan", "ragan", "sngan", "wgan", "wgan-gp"]


@pytest.mark.parametrize("name", TWO)
def test_games_of_two_have_one(name, small):
    source = open_data(small)
    batches = Batches(source, rows=16)
    game = zoo.build(name, source.spec, **zoo.settings(name, "tiny", {}, "small", "image").options)
    found = duality_gap(game, batches, batches, moves=2)
    assert math.isfinite(found.gap.value)
    assert found.gap.interval() is not None


@pytest.mark.parametrize(
    ("name", "says"),
    [("vae", "moves E and G"), ("vaegan", "moves E then G then D"), ("infogan", "moves D and Q then G")],
)
def test_games_of_others_are_refused(name, says, small):
    source = open_data(small)
    game = zoo.build(name, source.spec, **zoo.settings(name, "tiny", {}, "small", "image").options)
    batches = Batches(source, rows=16)
    with pytest.raises(OptionError, match=rf"{name} has no duality gap, .*it {says}"):
        duality_gap(game, batches, batches)


def test_no_moves_and_no_term_are_refused(ring):
    with pytest.raises(ValueError, match="1 move or more"):
        duality_gap(stable(ring[0].spec), *ring, moves=0)

    class Nameless(Known):
        def d_loss(self, real):
            return {"loss": super().d_loss(real)["adv"]}

    near = Batches(normal(300, 4), rows=16)
    with pytest.raises(OptionError, match="no term 'adv'"):
        duality_gap(Nameless(near.spec), near, near, moves=1)
