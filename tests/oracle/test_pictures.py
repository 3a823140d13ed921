"""What a run's pictures show: the judge's surface, its first moves, ways through the noise, and the film."""

import copy
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import elegan
from elegan import fit, zoo
from elegan.data.batches import Batches
from elegan.data.codec import codec_of
from elegan.data.source import Source, vector_field
from elegan.errors import OptionError
from elegan.exporting import pictures
from elegan.exporting.provenance import SOURCE_TYPE
from elegan.exporting.samples import plane
from elegan.game import Adam, Game, Turn
from elegan.spec import Field, Spec
from elegan.tasks.generate import BLOCK, draw
from elegan.tasks.interpolate import classes, interpolate, slerp
from elegan.tasks.judge import pull, side_of, verdict
from elegan.tasks.moves import one_sided
from elegan.training import loop
from elegan.training.distributed import World
from elegan.training.loop import train
from elegan.training.precision import Choice
from elegan.view.plane import Window


def cloud() -> Source:
    """Points in the plane around (3, −2), of another size than one."""
    rows = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32) * (5, 5) + (3, -2)
    return Source(
        "cloud", Spec(real=vector_field(rows.astype(np.float32), common=True)), {"real": rows.astype("f4")}, ""
    )


CLOUD = cloud()


def small(name: str, **options) -> dict:
    """A game's options at its smallest; `tiny` of r3gan is for images."""
    chosen = zoo.settings(name, "vector", {"widths": (8,)}) if name == "r3gan" else zoo.settings(name, "tiny", {})
    return {**chosen.options, **options}


def made(name: str, spec: Spec = CLOUD.spec, **options) -> Game:
    torch.manual_seed(0)
    game = zoo.build(name, spec, **small(name, **options))
    return game.eval().requires_grad_(False)


def batch(rows: int = 200) -> dict[str, torch.Tensor]:
    return Batches(CLOUD, rows=8)(0, 0, 0, rows)


# ---- the judge's surface


@pytest.fixture
def places() -> torch.Tensor:
    return torch.randn(50, 2, generator=torch.Generator().manual_seed(1)) * 2


def said(game: Game, places: torch.Tensor) -> torch.Tensor:
    return verdict(game, places, batch(), draw(game, 64))


@pytest.mark.parametrize("loss", ["minimax", "non-saturating"])
def test_a_logit_is_a_probability(places, loss):
    game = made("gan", loss=loss)
    game.D.head.bias.fill_(0.7)
    torch.testing.assert_close(said(game, places), torch.sigmoid(game.D(places)), atol=1e-6, rtol=0)


def test_a_judge_of_least_squares_is_undecided_halfway_between_its_targets(places):
    game = made("gan", loss="least-squares")
    for score, least, most in ((0.5, 0.49, 0.51), (1.0, 0.9, 0.95), (0.0, 0.05, 0.1)):
        game.D.head.weight.zero_()
        game.D.head.bias.fill_(score)
        assert ((said(game, places) > least) & (said(game, places) < most)).all()


def test_a_hinge_judge_is_undecided_at_zero(places):
    game = made("gan", loss="hinge")
    game.D.head.weight.mul_(5)
    shown, score = said(game, places), game.D(places)
    assert ((shown > 0.5) == (score > 0)).all()
    assert (score > 0).any()
    assert (score < 0).any()


def test_relative_scores_are_centred_between_real_and_drawn_and_not_scaled(places):
    game = made("r3gan")
    drawn = draw(game, 64)
    centre = (game.D(batch()["real"]).mean() + game.D(drawn).mean()) / 2
    shown = verdict(game, places, batch(), drawn)
    torch.testing.assert_close(shown, torch.sigmoid(game.D(places) - centre))
    game.D.body.head.bias.add_(9)
    torch.testing.assert_close(verdict(game, places, batch(), drawn), shown, atol=1e-5, rtol=0)


def test_a_critics_scores_are_shown_in_units_of_their_spread(places):
    game = made("wgan-gp")
    real, drawn = game.D(batch()["real"]), game.D(draw(game, 64))
    unit = (game.D(places) - (real.mean() + drawn.mean()) / 2) / torch.cat([real, drawn]).std()
    shown = said(game, places)
    torch.testing.assert_close(shown, torch.sigmoid(unit), atol=1e-5, rtol=0)
    game.D.head.weight.mul_(30)
    game.D.head.bias.mul_(30).add_(4)
    torch.testing.assert_close(said(game, places), shown, atol=1e-4, rtol=0)


def test_who_has_no_judge_to_ask_shows_no_surface(places):
    assert said(made("vae"), places) is None
    assert plane(made("vae"), batch(), 0)["surface"] is None
    told = Spec(**CLOUD.spec, label=Field("label", (), 3))
    told = Spec(real=replace(told["real"], classes=3), label=told["label"])
    asking = made("r3gan", told, conditional=True)
    labels = {"label": torch.arange(200) % 3}
    assert verdict(asking, places, batch() | labels, draw(asking, 64)) is None, "it would not know of which class"

    class Odd(Game):
        def __init__(self, spec):
            super().__init__(spec)
            self.G, self.D = nn.Linear(2, 2), nn.Bilinear(2, 2, 1)

        def turns(self):
            return [Turn("D", self.loss), Turn("G", self.loss)]

        def loss(self, real):
            return {"adv": self.D(real, real).mean()}

        def sample(self, n):
            return self.G(self.randn(n, 2))

    assert plane(Odd(CLOUD.spec).eval(), batch(), 0)["surface"] is None, "a picture without it, not an error"


def test_a_judge_that_says_nothing_finite_is_not_shown(places):
    for value in (math.inf, math.nan):
        game = made("gan")
        game.D.head.weight.fill_(value)
        assert said(game, places) is None


def test_asking_the_judge_changes_nothing(places):
    game = made("gan", norm=True, dropout=0.5)
    before, state = copy.deepcopy(game.state_dict()), torch.get_rng_state()
    drawn = draw(game, 64)
    verdict(game, places, batch(), drawn)
    pull(game, batch(), 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in game.state_dict().items())
    assert not any(p.requires_grad for p in game.parameters())
    assert game.rows == 1
    assert "sample" not in vars(game)


def test_the_surface_lies_where_the_data_lies():
    """A judge that says real to the right of x = 3 and more so above y = −2, in the units of the data."""
    game = made("gan")

    class Corner(nn.Module):
        def forward(self, x):
            return 3 * x[:, 0] + x[:, 1]

    game.D = Corner()
    parts = plane(game, batch(), 0)
    where = Window.around(parts["real"]).places()
    shift, scale = np.array(codec_of(CLOUD.spec["real"]).shift), codec_of(CLOUD.spec["real"]).scale[0]
    score = (where - shift) / scale @ (3, 1)
    np.testing.assert_allclose(parts["surface"], 1 / (1 + np.exp(-score)), atol=1e-4)
    assert abs(parts["real"].mean(0) - (3, -2)).max() < 1


def test_drawn_points_are_pulled_against_the_gradient_of_the_generators_loss():
    game = made("gan")
    points, ways = pull(game, batch(), 6, seed=3)
    x = points.clone().requires_grad_()
    nn.functional.softplus(-game.D(x)).mean().backward()
    torch.testing.assert_close(ways, -x.grad)
    shown, moved = pictures.pulls(game, batch())
    scale = codec_of(CLOUD.spec["real"]).scale[0]
    found = pull(game, batch(), pictures.ARROWS)
    np.testing.assert_allclose(moved, found[1].numpy() * scale, atol=1e-5)
    np.testing.assert_allclose(shown, codec_of(CLOUD.spec["real"]).decode(found[0]))
    assert pull(made("vae"), batch(), 6) is None, "its loss draws nothing from noise"


# ---- the first moves


def plan(name: str, **options) -> dict:
    return {"game": name, "options": small(name, **options), "training": {"seed": 5}}


def fresh(what: dict) -> Game:
    return fit.build(what, CLOUD.spec, Choice("cpu", "fp32", 1, ""))


def weights(player: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in player.state_dict().items()}


@pytest.mark.parametrize(("name", "moves"), [("gan", (4, 3)), ("r3gan", (3, 2)), ("wgan-gp", (4, 2))])
def test_replayed_players_are_bitwise_those_of_a_run_that_made_these_moves(name, moves, monkeypatch):
    """Such a run: the game's own turns, each masked outside of its stretch, in the loop that trains all games."""
    what = plan(name, **({"norm": False} if name == "gan" else {}))  # a masked move still moves running statistics
    batches = Batches(CLOUD, rows=4, shards=2)
    snapshots = dict(one_sided(fresh(what), batches, seed=5, moves=moves))
    repeat = what["options"].get("n_critic", 1)
    until = moves[0] // repeat  # steps
    kind = zoo.game_class(name)
    turns = kind.turns

    def one_after_the_other(self):
        judge, generator = turns(self)
        mask = {True: lambda terms: torch.ones(()), False: lambda terms: torch.zeros(())}
        judged = self.step < until
        return [
            Turn("D", self.d_loss, repeat=judge.repeat, optim=judge.optim, when=mask[judged]),
            Turn("G", self.g_loss, optim=generator.optim, when=mask[not judged]),
        ]

    first, judged, drawn = snapshots.values()
    assert list(snapshots) == [
        "start", f"after {moves[0]} moves of the judge", f"after {moves[1]} moves of the generator"
    ]  # fmt: skip
    assert weights(first) == weights(fresh(what))
    monkeypatch.setattr(kind, "turns", one_after_the_other)
    game = fresh(what)
    for event in train(game, batches, until + moves[1], seed=5):
        if event.step == until:
            assert weights(judged) == weights(game)
            assert weights(judged.D) != weights(first.D)
            assert weights(judged.G) == weights(first.G)
    assert weights(drawn) == weights(game)
    assert weights(drawn.G) != weights(first.G)
    assert weights(drawn.D) == weights(judged.D)


def test_the_first_move_of_a_replay_is_that_of_the_run_itself():
    batches = Batches(CLOUD, rows=8)
    snapshots = list(one_sided(fresh(plan("gan")), batches, seed=5, moves=(1, 1)))
    game = fresh(plan("gan"))
    next(train(game, batches, 1, seed=5))
    assert weights(snapshots[1][1].D) == weights(game.D)


def test_a_replay_asks_no_peers(monkeypatch):
    alone = list(one_sided(fresh(plan("gan")), Batches(CLOUD, rows=4, shards=2), seed=5, moves=(2, 1)))
    monkeypatch.setattr(loop, "world", lambda: World(0, 2))
    beside = list(one_sided(fresh(plan("gan")), Batches(CLOUD, rows=4, shards=2), seed=5, moves=(2, 1)))
    assert [weights(g) for _, g in alone] == [weights(g) for _, g in beside]


def test_a_turn_is_of_the_side_that_moves_with_its_helpers():
    sides = {"D": "judge", "D Q": "judge", "G": "generator", "G Q": "generator", "E G": "", "E": "", "D G": "", "F": ""}
    assert {players: side_of(Turn(players, dict)) for players in sides} == sides


def test_a_game_without_two_sides_has_only_a_start():
    assert [title for title, _ in one_sided(fresh(plan("vae")), Batches(CLOUD, rows=8))] == ["start"]


# ---- ways through the noise


def test_slerp_goes_along_the_great_arc():
    a, b = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    for share in (0.0, 0.25, 1 / 3, 1.0):
        angle = share * math.pi / 2
        arc = torch.tensor([[math.cos(angle), math.sin(angle)]])
        torch.testing.assert_close(slerp(a, b, share), torch.cat([arc, 3 * arc]))
    z, w = torch.randn(5, 7), torch.randn(5, 7)
    assert torch.equal(slerp(z, w, 0.0), z)
    assert torch.equal(slerp(z, w, 1.0), w)
    for other in (2 * z, -z):  # no angle, or no plane: straight on
        torch.testing.assert_close(slerp(z, other, 0.25), 0.75 * z + 0.25 * other)


def labelled(names: tuple[str, ...] = ("a", "b", "c")) -> Spec:
    codec = {"codec": {"kind": "image", "low": 0, "high": 255}}
    return Spec(
        real=Field("image", (1, 8, 8), len(names), about=codec), label=Field("label", (), len(names), names=names)
    )


@pytest.mark.parametrize("rows", [3, BLOCK + 2])
def test_the_ends_of_a_way_are_plain_samples(rows):
    game = made("gan")
    ways = interpolate(game, rows, 5, seed=4).view(rows, 5, 2)
    assert torch.equal(ways[:, 0], draw(game, rows, seed=4))
    assert torch.equal(ways[:, -1], draw(game, rows, seed=5))
    again = interpolate(game, rows, 3, seed=4).view(rows, 3, 2)
    assert torch.equal(again[:, 1], ways[:, 2]), "the middle is the middle"
    assert "noise" not in vars(game)


def test_a_way_is_the_generators_picture_of_the_arc():
    game = made("wgan-gp")  # no BatchNorm: each sample is a function of its noise alone
    seen = []
    plain = game.noise
    game.noise = lambda n, truncation=None: seen.append(plain(n)) or seen[-1]
    draw(game, 2, seed=0)
    draw(game, 2, seed=1)
    del game.noise
    expected = torch.stack([game.G(slerp(*seen, step / 3)) for step in range(4)], 1)[:2].flatten(0, 1)
    torch.testing.assert_close(interpolate(game, 2, 4), expected)


def test_labels_are_held_along_a_way():
    game = made("cgan", labelled())
    for label, each in ((None, [0, 1, 2, 0]), (2, [2] * 4), ([1, 0, 2, 2], [1, 0, 2, 2])):
        ways = interpolate(game, 4, 3, seed=1, label=label).view(4, 3, 1, 8, 8)
        assert torch.equal(ways[:, 0], draw(game, 4, seed=1, label=each))
        assert torch.equal(ways[:, -1], draw(game, 4, seed=2, label=each))
    many = [k % 3 for k in range(BLOCK + 2)]
    ways = interpolate(game, BLOCK + 2, 2, label=many)
    assert torch.equal(ways[1::2], draw(game, BLOCK + 2, seed=1, label=many))


def test_whatever_else_is_random_stays_as_it_was():
    class Coin(Game):
        def __init__(self, spec, *, z_dim: int = 3):
            super().__init__(spec)
            self.G = nn.Linear(4, 2)

        def turns(self):
            return [Turn("G", lambda: {"adv": self.sample(2).sum()}, optim=Adam())]

        def sample(self, n):
            coin = torch.rand(n, 1)
            return torch.cat([self.G(torch.cat([self.noise(n), torch.zeros(n, 1)], 1)) * 0 + coin, coin], 1)[:, :2]

    ways = interpolate(Coin(CLOUD.spec), 3, 4).view(3, 4, 2)
    assert (ways == ways[:, :1]).all()
    assert len(ways[:, 0, 0].unique()) == 3


def test_ways_that_make_no_sense_are_said_in_a_line():
    game = made("gan")
    with pytest.raises(OptionError, match="--rows 0 must be a whole number, 1 or more"):
        interpolate(game, 0)
    with pytest.raises(OptionError, match="--steps 1 must be a whole number, 2 or more"):
        interpolate(game, 2, 1)
    with pytest.raises(OptionError, match="--label 3 is no class"):
        interpolate(made("cgan", labelled()), 2, label=3)

    class Still(Game):
        def __init__(self, spec):
            super().__init__(spec)
            self.G = nn.Linear(2, 2)

        def turns(self):
            return [Turn("G", lambda: {"adv": self.sample(2).sum()})]

        def sample(self, n):
            return self.G(self.randn(n, 2))

    with pytest.raises(OptionError, match="Still has no noise to interpolate; it needs a game with an option z_dim"):
        interpolate(Still(CLOUD.spec))


def test_every_class_has_a_row_and_every_noise_a_column():
    game = made("cgan", labelled())
    sheet = classes(game, 5, seed=2).view(3, 5, 1, 8, 8)
    for k in range(3):
        assert torch.equal(sheet[k], draw(game, 5, seed=2, label=k))
    with pytest.raises(OptionError, match="gan knows no classes here"):
        classes(made("gan"))
    with pytest.raises(OptionError, match="--columns 0 must be a whole number"):
        classes(game, 0)


def test_rows_are_called_by_short_names_or_numbers():
    for names, shown in (
        (("ox", "cow", "a goat"), ["ox", "cow", "a goat"]),
        (("ox", "cow", "a very long name"), ["0", "1", "2"]),
        (("ox", "Kühe", "goat"), ["0", "1", "2"]),
    ):
        assert pictures.row_names(made("cgan", labelled(names))) == shown


# ---- the film


def frames(folder, count: int, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> None:
    folder.mkdir()
    for k in range(count):
        Image.new(mode, size, k if mode == "L" else (k, 0, 255 - k)).save(folder / f"{k:08d}.png")


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_film_shows_every_frame_and_holds_the_last(tmp_path, mode, monkeypatch):
    monkeypatch.setattr(pictures, "GREYS", 256)
    frames(tmp_path / "samples", 5, mode)
    for path in (tmp_path / "samples").iterdir():  # a mark that moves, so that no frame is as the one before
        k = int(path.stem)
        with Image.open(path) as opened:
            frame = opened.copy()
        frame.paste("white", (k * 5, 0, k * 5 + 5, 5))
        frame.save(path)
    made_at = pictures.save_film(tmp_path / "samples", tmp_path / "film.gif", {"game": "gan", "seed": 3})
    with Image.open(made_at) as film:
        assert (film.format, film.n_frames, film.info["loop"]) == ("GIF", 5, 0)
        comment = film.info["comment"].decode()
        assert comment == f"elegan {elegan.__version__}; {SOURCE_TYPE}; game: gan; seed: 3"
        shown = []
        for k in range(5):
            film.seek(k)
            shown.append(film.info["duration"])
            pixels = np.asarray(film.convert("L")).astype(int)
            assert (pixels[:5, k * 5 : k * 5 + 5] > 240).all()
            assert (pixels[10:] < 200).all()
    assert shown == [pictures.FRAME_MS] * 4 + [pictures.LAST_MS]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film.gif", "samples"]


def test_a_long_film_is_thinned_and_a_wide_one_made_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "GREYS", 256)
    frames(tmp_path / "samples", 150, "L", (2 * pictures.WIDEST, 10))
    with Image.open(pictures.save_film(tmp_path / "samples", tmp_path / "x.gif", {})) as film:
        assert film.n_frames == pictures.FRAMES
        assert film.size == (pictures.WIDEST, 5)
        film.seek(film.n_frames - 1)
        assert np.asarray(film.convert("L"))[0, 0] == 149
        film.seek(0)
        assert np.asarray(film.convert("L"))[0, 0] == 0


def test_a_single_frame_is_no_film(tmp_path):
    frames(tmp_path / "samples", 1)
    assert pictures.save_film(tmp_path / "samples", tmp_path / "x.gif", {}) is None
    assert not (tmp_path / "x.gif").exists()


# ---- all of them


def test_a_picture_that_cannot_be_made_is_a_warning(tmp_path):
    frames(tmp_path / "samples", 3)

    def broken():
        raise RuntimeError("no such thing")

    game = made("gan")
    with pytest.warns(UserWarning, match=r"moves.png cannot be made: no such thing"):
        made_now = list(
            pictures.draw_pictures(tmp_path / "p", tmp_path / "samples", game, batch(), {"step": 3}, 0, broken)
        )
    assert [path.name for path in made_now] == ["training.gif"]
    (tmp_path / "q").write_text("")
    with pytest.warns(UserWarning, match=r"training.gif cannot be written \(File exists\)"):
        assert not list(
            pictures.draw_pictures(tmp_path / "q", tmp_path / "samples", game, batch(), {"step": 3}, 0, broken)
        )


def test_panels_are_drawn_of_what_makes_sense():
    batches = Batches(CLOUD, rows=8)
    side = pictures.framed([("", np.zeros((480, 480, 3), np.uint8))]).width
    facts = {"step": 1, "seed": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        two = pictures.moves(made("vae"), one_sided(made("vae"), batches), batch(), facts)
        trainee = fresh(plan("gan"))
        four = pictures.moves(made("gan"), one_sided(trainee, batches, moves=(2, 1)), batch(), facts)
    assert two.width == four.width == 2 * side - 20
    assert four.height - two.height == 480 + 44
    legend = np.asarray(four)[-40:].astype(int)
    assert (legend.min(2) < 150)[:, :400].any(), "what the arrows are"
    assert not (np.asarray(two)[-40:].min(2) < 150)[:, :400].any()


def test_a_judge_that_stands_still_keeps_its_surface():
    """Also a critic's, which is centred by points that the generator has moved meanwhile."""
    first = one_sided(fresh(plan("wgan-gp", lr=0.05)), Batches(CLOUD, rows=8), moves=(4, 4))
    four = np.asarray(pictures.moves(made("wgan-gp"), first, batch(), {"step": 1, "seed": 0}))
    judged, moved = four[44:524, 520:1000], four[568:1048, 20:500]
    assert 0.6 < (judged == moved).all(2).mean() < 1, "all but the points and arrows"
    assert len(np.unique(moved[::8, ::8].reshape(-1, 3), axis=0)) > 12, "and there is one"
