"""What a frame shows, against what players with known answers must show, and against differences of the loss itself."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.functional import softplus

from elegan.studio import wire
from elegan.studio.lab.catalogue import layers
from elegan.studio.lab.lab import Lab
from elegan.studio.lab.views import Shown, bytes_of
from elegan.studio.setup import Setup
from elegan.tasks.judge import pull, verdict
from elegan.training.probe import untouched

STRETCHED = {"kind": "equation", "x": "40*t", "y": "s", "spread": 0.0, "samples": 500}
LINEAR = {"z_dim": 2, "widths": [], "judge_widths": []}


def lab(game: str = "gan", data: dict | None = None, shown: Shown = Shown(points=50), **options) -> Lab:
    bench = {"game": game, "preset": "none" if game == "gan" else None, "options": options}
    data = data or STRETCHED
    return Lab.of(Setup.model_validate({"data": data, "benches": [bench], "batch": 32, "seed": 5}), shown)


def seen(made: Lab) -> dict[str, np.ndarray]:
    return made.views[0].arrays(made.benches[0].game, made.shown)


@torch.no_grad()
def set_linear(layer: torch.nn.Linear, weight: list, bias: list) -> None:
    layer.weight.copy_(torch.tensor(weight))
    layer.bias.copy_(torch.tensor(bias))


def straight(**options) -> Lab:
    """A generator that gives its noise, in the units of the data; a judge whose logit is 3x + y of encoded points."""
    made = lab(**{**LINEAR, **options})
    for game in (made.benches[0].game, made.benches[0].average):
        if game.options["z_dim"] == 2:
            set_linear(game.G[1], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
        set_linear(game.D.head, [[3.0, 1.0]], [0.0])
    return made


def encoded(made: Lab, points: np.ndarray) -> np.ndarray:
    rows = made.points.source.arrays["real"].astype(np.float64)
    return (points - rows.mean(0)) / rows.std(0)


def test_a_surface_is_what_the_judge_says_of_each_place_from_above():
    made = straight()
    surface, window = seen(made)["surface"], made.window
    assert (surface.shape, surface.dtype) == ((64, 64), np.uint8)
    for row, column in ((0, 0), (5, 60), (31, 32), (63, 0)):
        place = [window.left + (column + 0.5) / 64 * window.side, window.low + (63.5 - row) / 64 * window.side]
        x, y = encoded(made, np.array([place]))[0]
        assert surface[row, column] / 255 == pytest.approx(1 / (1 + math.exp(-3 * x - y)), abs=0.003)


def test_points_are_in_the_units_of_the_data_and_of_the_noise_beside_them():
    made = straight()
    arrays = seen(made)
    assert arrays["fake"].shape == (50, 2)
    assert np.allclose(encoded(made, arrays["fake"]), arrays["noise"], atol=1e-4)
    said = 1 / (1 + np.exp(-encoded(made, arrays["fake"]) @ [3, 1]))
    assert np.abs(arrays["judged"] / 255 - said).max() < 0.003
    real = made.views[0].raw(made.views[0].real)
    assert len(real) == 500
    assert np.abs(arrays["judged_real"] / 255 - 1 / (1 + np.exp(-encoded(made, real) @ [3, 1]))).max() < 0.003
    made.round()
    assert np.array_equal(seen(made)["noise"], arrays["noise"]), "the same noise, so that points move smoothly"
    more = made.views[0].arrays(made.benches[0].game, Shown(points=60))
    assert len(more["fake"]) == 60


@pytest.mark.parametrize("loss", ["non-saturating", "minimax", "least-squares", "hinge"])
def test_arrows_are_minus_the_gradient_of_the_generators_loss(loss):
    """By differences of the loss of all drawn points, each moved by itself, in the units of the data."""
    made = lab(widths=[6], judge_widths=[6], z_dim=2, loss=loss)
    view, game = made.views[0], made.benches[0].game
    arrays = seen(made)
    losses = {
        "non-saturating": lambda d: softplus(-d).mean(),
        "minimax": lambda d: -softplus(d).mean(),
        "least-squares": lambda d: (d - 1).square().mean() / 2,
        "hinge": lambda d: -d.mean(),
    }
    fake = view.codec.encode(torch.from_numpy(arrays["fake"])).double()
    judge = copy.deepcopy(game.D).double()
    for k in (0, 7, 49):
        for axis in (0, 1):
            step = torch.zeros_like(fake)
            step[k, axis] = 1e-5
            with torch.no_grad():
                slope = (losses[loss](judge(fake + step)) - losses[loss](judge(fake - step))) / 2e-5
            assert arrays["arrows"][k, axis] == pytest.approx(
                -float(slope) * float(view.scale[0, axis]), rel=1e-2, abs=1e-7
            )


@pytest.mark.parametrize(("prior", "z_dim"), [("normal", 2), ("uniform", 2), ("normal", 1), ("uniform", 1)])
def test_a_manifold_is_the_image_of_noises_of_equal_mass(prior, z_dim):
    made = straight(prior=prior, z_dim=z_dim)
    game = made.benches[0].game
    if z_dim == 1:
        set_linear(game.G[1], [[1.0], [2.0]], [0.0, 0.0])
    manifold = encoded(made, seen(made)["manifold"].astype(np.float64))
    n = 21 if z_dim == 2 else 201
    line = np.linspace(-1, 1, n) if prior == "uniform" else stats.norm.ppf((np.arange(n) + 0.5) / n)
    if z_dim == 1:
        assert np.allclose(manifold, np.stack([line, 2 * line], 1), atol=1e-3)
    else:
        x, y = np.meshgrid(line, line)
        assert np.allclose(manifold, np.stack([x, y], 2), atol=1e-3)


def test_what_has_no_such_thing_does_not_show_it():
    assert "manifold" not in seen(lab(z_dim=3, widths=[4], judge_widths=[4]))
    assert "manifold" not in seen(lab("infogan")), "the same noise gives other samples by other codes"
    arrays = seen(lab("vae"))
    assert set(arrays) == {"fake", "noise", "manifold"}
    nothing = Shown(points=16, arrows=False, surface=False, manifold=False)
    assert set(seen(lab(shown=nothing, **LINEAR))) == {"fake", "noise", "judged", "judged_real"}


@pytest.mark.parametrize(
    "game", ["gan", "lsgan", "wgan", "wgan-gp", "r3gan", "ragan", "dragan", "sngan", "vaegan", "infogan"]
)
def test_what_scores_mean_is_known_once_for_all(game):
    """A surface by the meaning that was kept is one by a meaning that is asked for anew, also after training."""
    made = lab(game)
    view, bench = made.views[0], made.benches[0]
    for _ in range(3):
        made.round()
    with torch.no_grad(), untouched(bench.game):
        bench.game.eval()
        fake, _ = view.draw(bench.game, 50, "lab")
        anew = verdict(bench.game, view.places, {"real": view.real}, fake)
    assert anew is not None
    assert np.array_equal(seen(made)["surface"].ravel(), bytes_of(anew).numpy())


def test_a_change_of_the_loss_is_seen_in_the_surface():
    made = lab(**LINEAR)
    before = seen(made)["surface"]
    made.benches[0].change({"loss": "least-squares"})
    made.views[0].learn()
    middle, unit = made.views[0].meaning
    assert float(middle) == pytest.approx(0.5, abs=1e-4)
    assert float(unit) < 1
    assert not np.array_equal(seen(made)["surface"], before)


def test_games_are_looked_at_as_they_draw_not_as_they_train():
    made = lab(widths=[6], judge_widths=[6], z_dim=2, norm=True, dropout=0.5)
    made.round()
    arrays, game = seen(made), copy.deepcopy(made.benches[0].game).eval()
    assert made.benches[0].game.training or made.benches[0].game.D.training
    with torch.no_grad():
        fake = game.G(torch.from_numpy(arrays["noise"]))
        said = torch.sigmoid(game.D(fake))
    assert np.allclose(made.views[0].raw(fake), arrays["fake"], atol=1e-4)
    assert np.abs(arrays["judged"] / 255 - said.numpy()).max() < 0.003
    assert np.allclose(made.views[0].points(game, 50, "lab"), arrays["fake"], atol=1e-4)
    assert np.array_equal(made.views[0].points(made.benches[0].game, 50, "lab"), made.views[0].points(game, 50, "lab"))


@pytest.mark.parametrize("norm", [False, True])
def test_asking_for_arrows_leaves_a_game_in_training_as_it_was(norm):
    made = lab(widths=[6], judge_widths=[6], z_dim=2, norm=norm, dropout=0.5)
    made.round()
    bench = made.benches[0]
    marks = {name: (t.detach().clone(), t.requires_grad, t.grad is None) for name, t in bench.game.named_parameters()}
    buffers = {name: t.clone() for name, t in bench.game.named_buffers()}
    modes = [m.training for m in bench.game.modules()]
    state = torch.get_rng_state()
    first = pull(bench.game, made.views[0]._batch(20), 20)
    again = pull(bench.game, made.views[0]._batch(20), 20)
    judge, points = copy.deepcopy(bench.game.D).eval(), first[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(softplus(-judge(points)).mean(), points)
    assert torch.allclose(first[1], -gradient, atol=1e-7), "as it draws, without dropout"
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert all(
        torch.equal(t, marks[name][0]) and (t.requires_grad, t.grad is None) == marks[name][1:]
        for name, t in bench.game.named_parameters()
    )
    assert all(torch.equal(t, buffers[name]) for name, t in bench.game.named_buffers())
    assert [m.training for m in bench.game.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert "sample" not in vars(bench.game)
    assert not bench.game.D._forward_hooks


def test_pull_takes_points_for_those_that_the_loss_draws():
    made = straight()
    given = torch.tensor([[0.0, 0.0], [1.0, -1.0]])
    points, ways = pull(made.benches[0].game, {}, 2, drawn=given)
    assert torch.equal(points, given)
    slope = torch.sigmoid(-(given @ torch.tensor([3.0, 1.0]))) / 2  # of −log σ(D), a mean over two
    assert torch.allclose(ways, slope[:, None] * torch.tensor([3.0, 1.0]), atol=1e-6)


def test_a_frame_holds_every_bench_and_what_is_not_finite_is_left_out():
    made = Lab.of(
        Setup.model_validate({
            "data": STRETCHED, "batch": 32,
            "benches": [{"game": "gan", "preset": "none", "options": LINEAR}, {"game": "vae"}],
        }),
        Shown(points=20),
    )  # fmt: skip
    with torch.no_grad():
        made.benches[0].game.D.head.bias.fill_(math.nan)
        made.benches[0].average.D.head.bias.fill_(math.nan)
    made.round()
    head, arrays = wire.unpack(made.frame(7, True, 2.0))
    assert {name.split("/")[0] for name in arrays} == {"0", "1"}
    assert "0/surface" not in arrays, "a judge that says nothing finite shows none"
    assert "D.adv" not in head["benches"][0]["terms"]
    assert (head["seq"], head["playing"], head["rate"], head["step"]) == (7, True, 2.0, 1)


def test_layers_are_told_from_the_input_on():
    game = lab(widths=[6, 5], judge_widths=[4], z_dim=3, norm=True).benches[0].game
    kinds = [(layer["kind"], layer["size"]) for layer in layers(game.G)]
    norm = "batchnorm1d"
    assert kinds == [("input", 3), ("linear", 6), (norm, 6), ("linear", 5), (norm, 5), ("linear", 2)]
    assert [layer["size"] for layer in layers(game.D)] == [2, 4, 1]
