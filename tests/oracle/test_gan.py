"""What the original game can be told: whence its noise comes, who moves by what and how often. Against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.source import Source, vector_field
from elegan.errors import OptionError
from elegan.game import SGD, Adam
from elegan.run import checkpoint
from elegan.run.directory import RunDirectory
from elegan.run.saving import load_into, save
from elegan.spec import Spec
from elegan.training.loop import Loop, State
from tests.contract.checks import differing, only, snapshot

ROWS = np.random.default_rng(0).normal(1.0, 0.5, (40, 2)).astype(np.float32)
SPEC = Spec(real=vector_field(ROWS))
SOURCE = Source("points", SPEC, {"real": ROWS}, "points in the plane")
LINEAR = dict(z_dim=2, widths=(), judge_widths=())
SMALL = dict(z_dim=2, widths=(4,), judge_widths=(4,))


def built(seed: int = 0, **options):
    torch.manual_seed(seed)
    return zoo.build("gan", SPEC, **options)


def looped(game, state: State | None = None, rows: int = 8) -> Loop:
    return Loop(game, Batches(SOURCE, rows=rows), seed=5, state=state)


def linear(module: nn.Module) -> nn.Linear:
    """The only layer of a player without hidden ones."""
    (layer,) = (m for m in module.modules() if isinstance(m, nn.Linear))
    return layer


# -- the noise --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prior", "deviation"), [("normal", 1.0), ("uniform", 1 / math.sqrt(3))])
def test_the_noise_has_its_distribution(prior, deviation):
    z = built(**SMALL, prior=prior).noise(40_000)
    assert z.shape == (40_000, 2)
    assert z.dtype == torch.float32
    assert z.mean(0).tolist() == pytest.approx([0, 0], abs=0.02)
    assert z.std(0).tolist() == pytest.approx([deviation] * 2, rel=0.02)
    assert float(torch.corrcoef(z.T)[0, 1]) == pytest.approx(0, abs=0.02)
    if prior == "uniform":
        assert z.abs().max() <= 1
        shares = torch.histc(z, 10, -1, 1) / z.numel()
        assert shares.tolist() == pytest.approx([0.1] * 10, rel=0.05)
    else:
        assert z.abs().max() > 3


def test_uniform_noise_is_not_cut_off():
    game = built(**SMALL, prior="uniform")
    with pytest.raises(OptionError, match=r"--truncation .* uniform noise"):
        game.sample(3, truncation=0.5)
    assert built(**SMALL).noise(1_000, 0.5).abs().max() <= 0.5


@pytest.mark.parametrize("prior", ["normal", "uniform"])
@pytest.mark.parametrize("z_dim", [1, 2])
def test_players_without_hidden_layers_train(z_dim, prior):
    game = built(z_dim=z_dim, widths=(), judge_widths=(), prior=prior, optim="sgd", lr=0.1)
    assert tuple(linear(game.G).weight.shape) == (2, z_dim)
    assert tuple(linear(game.D).weight.shape) == (1, 2)
    before = snapshot(game, (loop := looped(game)).state)
    for _ in range(3):
        event = loop.step()
    assert game.sample(5).shape == (5, 2)
    assert all(math.isfinite(v) for v in event.terms.values())
    moved = [name for name in differing(before, snapshot(game, loop.state)) if name.startswith("weights/")]
    assert len(moved) == 4


# -- who moves by what ------------------------------------------------------------------------------------------------


def test_descent_follows_the_gradient_of_logistic_regression():
    """A judge and a generator without hidden layers, whose gradients have closed forms."""
    game = built(**LINEAR, optim="sgd", lr=0.05, judge_lr=0.2)
    loop = looped(game)
    judge, generator = loop.begin()
    D, G = linear(game.D), linear(game.G)
    (w,), b, A, c = (p.detach().double() for p in (D.weight, D.bias, G.weight, G.bias))
    drawn: list[Tensor] = []
    game.G.register_forward_pre_hook(lambda module, args: drawn.append(args[0].double()))
    x = loop.batches(5, 0, 0, 8)["real"].double()  # (8, 2)
    loop.advance(judge)
    fake = drawn[0] @ A.T + c
    real_doubt, fake_trust = torch.sigmoid(-(x @ w + b)), torch.sigmoid(fake @ w + b)  # (8,) each
    slope = (-real_doubt[:, None] * x + fake_trust[:, None] * fake).mean(0) / 2
    torch.testing.assert_close(D.weight[0].double(), w - 0.2 * slope, rtol=0, atol=1e-6)
    torch.testing.assert_close(D.bias.double(), b - 0.2 * (fake_trust - real_doubt).mean() / 2, rtol=0, atol=1e-6)
    (w,), b = D.weight.detach().double(), D.bias.detach().double()
    loop.advance(generator)
    z = drawn[1]
    doubt = torch.sigmoid(-((z @ A.T + c) @ w + b))
    torch.testing.assert_close(G.bias.double(), c + 0.05 * doubt.mean() * w, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        G.weight.double(), A + 0.05 * torch.outer(w, (doubt[:, None] * z).mean(0)), rtol=0, atol=1e-6
    )
    assert loop.state.optim.tensors() == {}, "plain descent remembers nothing"


@pytest.mark.parametrize(
    ("optim", "judge_optim", "kinds"),
    [
        ("adam", None, (Adam, Adam)),
        ("sgd", None, (SGD, SGD)),
        ("sgd", "adam", (Adam, SGD)),
        ("adam", "sgd", (SGD, Adam)),
    ],
)
def test_each_player_has_its_optimiser(optim, judge_optim, kinds):
    game = built(**SMALL, optim=optim, judge_optim=judge_optim, lr=1e-2, judge_lr=2e-2, beta1=0.25)
    records = [turn.optim for turn in game.turns()]
    assert tuple(map(type, records)) == kinds
    assert [record.lr for record in records] == pytest.approx([2e-2, 1e-2])
    assert all(record.betas == (0.25, 0.999) for record in records if isinstance(record, Adam))
    loop = looped(game)
    loop.step()
    remembered = {name.split("/")[1][0] for name in loop.state.optim.tensors()}
    assert remembered == {name for name, kind in zip("DG", kinds, strict=True) if kind is Adam}


def test_rates_of_descent_fall_like_those_of_adam():
    game = built(**SMALL, optim="sgd", lr=0.1, decay=0.2, decay_images=1_000)
    game.images = 500
    assert [turn.optim.lr for turn in game.turns()] == pytest.approx([0.06] * 2)


# -- how often --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "generator_k", "images"), [(1, 1, 8), (3, 2, 24), (2, 3, 24), (0, 1, 8), (4, 0, 32)])
def test_players_move_as_often_as_they_are_told(k, generator_k, images, monkeypatch):
    game = built(**SMALL, k=k, generator_k=generator_k)
    loop = looped(game)
    before = snapshot(game, loop.state)
    made, advance = [], loop.advance
    monkeypatch.setattr(loop, "advance", lambda turn: made.append(turn.players) or advance(turn))
    event = loop.step()
    assert made == ["D"] * k + ["G"] * generator_k
    assert event.images == images
    after = snapshot(game, loop.state)
    for name, moves in (("D", k), ("G", generator_k)):
        still = differing(only(before, f"weights/{name}"), only(after, f"weights/{name}")) == []
        assert still == (moves == 0)
        assert (f"{name}.adv" in event.terms) == (moves > 0)
        assert getattr(game, name).training == (moves > 0), "whoever stands still is in eval mode"


def test_nobody_moving_is_no_game():
    with pytest.raises(OptionError, match="k and generator_k are both 0"):
        built(**SMALL, k=0, generator_k=0)
    loop = looped(built(**SMALL, k=0))
    with pytest.raises(OptionError, match="k and generator_k are both 0"):
        loop.steer({"generator_k": 0})
    assert loop.game.generator_k == 1
    assert loop.state.changes == {}


def test_all_of_it_changes_while_it_trains():
    game = built(**SMALL)
    loop = looped(game)
    loop.step()
    loop.steer({"prior": "uniform", "optim": "sgd", "judge_optim": "adam", "k": 2, "generator_k": 0, "D.lr": 0.5})
    for one in (game, loop.state.average.game):  # whoever draws from the average draws the same noise
        assert one.noise(2_000).abs().max() <= 1
    loop.step()
    (turn,) = loop.turns
    assert (turn.players, turn.repeat, turn.optim) == ("D", 2, Adam(0.5, betas=(0.5, 0.999)))
    loop.steer({"G.lr": 0.25, "k": 0, "generator_k": 1})
    loop.step()
    (turn,) = loop.turns
    assert (turn.players, turn.optim) == ("G", SGD(0.25)), "a rate set meanwhile waits for the player"
    for name, value in {"prior": "gauss", "optim": "rmsprop", "k": -1, "generator_k": 1.5}.items():
        with pytest.raises(OptionError):
            loop.steer({name: value})


def test_changes_that_make_sense_only_together_are_taken_together():
    """Also where a resume takes them up in another order than they were made in."""
    game = built(**SMALL, generator_k=0)
    loop = looped(game)
    for change in ({"k": 2}, {"generator_k": 1}, {"k": 0}):
        loop.steer(change)
    assert [*loop.state.changes] == ["k", "generator_k"]
    again = built(**SMALL, generator_k=0)
    state = State.fresh(again)
    state.changes = dict(loop.state.changes)
    assert [turn.players for turn in looped(again, state).begin()] == ["G"]
    with pytest.raises(OptionError, match="cannot go on with k=0, generator_k=0"):
        loop.steer({"D.lr": 0.5, "k": 0, "generator_k": 0})
    assert (game.k, game.generator_k, loop.state.changes) == (0, 1, {"k": 0, "generator_k": 1}), "all or none"


CHANGES = {
    2: {"k": 0},
    4: {"k": 2, "D.lr": 5e-3, "prior": "uniform"},
    6: {"k": 0, "D.lr": 1e-3},
    8: {"generator_k": 0, "k": 1},
}


@pytest.mark.parametrize("cut", [3, 5, 7, 9])
def test_a_resume_while_a_player_stands_still_is_bitwise(cut, tmp_path):
    """With BatchNorm and dropout, which behave otherwise in eval mode."""

    def trained(game, state, until):
        loop = looped(game, state)
        while state.step < until:
            event = loop.step()
            loop.steer(CHANGES.get(event.step))
        return snapshot(game, state), (game.D.training, game.G.training)

    how = dict(**SMALL, norm=True, dropout=0.5)
    game = built(**how)
    whole = trained(game, State.fresh(game, half_life_images=20), 11)
    game = built(**how)
    state = State.fresh(game, half_life_images=20)
    trained(game, state, cut)
    save(RunDirectory(tmp_path), game, state, {})
    again = built(seed=9, **how)
    state = State.fresh(again, half_life_images=20)
    load_into(again, state, checkpoint.newest(RunDirectory(tmp_path).checkpoints))
    found = trained(again, state, 11)
    assert differing(whole[0], found[0]) == []
    assert whole[1] == found[1] == (True, False)


# -- presets ----------------------------------------------------------------------------------------------------------


def test_gan_lab_is_what_gan_lab_begins_with():
    chosen = zoo.settings("gan", "gan-lab", {})
    game = built(**chosen.options)
    sizes = [[tuple(m.weight.shape) for m in p.modules() if isinstance(m, nn.Linear)] for p in (game.G, game.D)]
    assert sizes == [[(10, 2), (2, 10)], [(9, 2), (9, 9), (1, 9)]]
    assert [turn.optim for turn in game.turns()] == [SGD(0.1)] * 2
    assert (game.prior, game.k, game.generator_k, chosen.training["batch"]) == ("uniform", 1, 1, 150)
