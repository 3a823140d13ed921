"""Every game with the option `augment` shows its judge augmented images only, on both sides, and adapts if asked to."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from elegan import zoo
from elegan.augment import MOST
from elegan.errors import OptionError
from elegan.game import Game
from elegan.training.loop import Loop
from elegan.training.turns import fields_of
from tests.contract import checks
from tests.contract.checks import SOURCES, Case

GAMES = [name for name in zoo.names() if "augment" in zoo.describe(name).defaults()]
WITHOUT = {"vae", "ae"}  # no judge looks at their images
FAST = 50  # images in which a strength goes from 0 to 1, so that it moves while one watches


@dataclass(frozen=True, eq=False)
class Augmented(Case):
    """A case whose augmentation stands at a half and adapts fast."""

    cuts: tuple[int, ...] = (3,)

    def build(self, *args, **named) -> Game:
        game = super().build(*args, **named)
        game.augment.over_images = FAST
        game.augment.strength.fill_(0.5)
        return game


def case(name: str, **options) -> Augmented:
    kind = zoo.game_class(name)
    source = SOURCES["unpaired" if kind.accepts(SOURCES["images"].spec) else "images"]
    settings = zoo.settings(name, "tiny", {"augment": "ada", **options}).options
    return Augmented(f"{name}-augmented", kind, source, settings)


every_game = pytest.mark.parametrize("name", GAMES)
RULES = (
    checks.only_movers_move,
    checks.terms_are_finite_fp32_scalars,
    checks.batches_are_not_altered,
    checks.state_is_parameters_and_buffers,
    checks.resume_is_bitwise,
)


def judges(game: Game) -> dict[str, nn.Module]:
    return {name: getattr(game, name) for name in ("D", "DA", "DB") if hasattr(game, name)}


def losses(game: Game, side: str) -> list:
    turns = {turn.players.split()[0]: turn.loss for turn in game.turns()}
    return [loss for players, loss in turns.items() if players.startswith("D") == (side == "judge")]


def run(game: Game, loss, batch: dict) -> dict:
    game.rows = 4
    published = {"fake_a": torch.zeros(4, 3, 16, 16), "fake_b": torch.zeros(4, 3, 16, 16)}
    wanted = fields_of(loss)
    return loss(**{n: t for n, t in {**published, **batch}.items() if n in wanted})


def test_every_game_with_a_judge_of_images_has_the_option():
    assert {name for name in zoo.names() if zoo.describe(name).path.read_text().count("self.D")} == set(GAMES)
    assert set(zoo.names()) - set(GAMES) == WITHOUT


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@every_game
def test_contract(name, rule, tmp_path):
    rule(case(name), tmp_path)


@pytest.mark.parametrize("side", ["judge", "generator"])
@every_game
def test_a_judge_sees_augmented_images_only(name, side):
    """Augmentation paints everything white: nothing of another colour is shown to any judge, by either side's loss."""
    at = case(name)
    game, batch = at.build(), at.batches()(0, 0, 0, 4)
    game.augment.chain = [lambda x, p: x * 0 + 0.75]
    seen = []
    for judge in judges(game).values():
        judge.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    for loss in losses(game, side):
        if loss.__name__ != "e_loss":  # the encoder of vaegan asks for features of images as they are
            run(game, loss, batch)
    white = [bool((x == 0.75).all()) for x in seen]
    assert white
    as_they_are = [False, False] if (name, side) == ("vaegan", "generator") else []  # for the likeness of features
    assert sorted(white) == [*as_they_are, *[True] * (len(white) - len(as_they_are))]


@every_game
def test_what_a_strength_goes_by_is_the_judge_s_word_on_both_sides(name):
    """Real images are white, drawn ones black, and the judge says how light they are: it knows them all."""
    at = case(name)
    game = at.build()
    game.augment.strength.zero_()
    batch = {n: torch.ones_like(t) if t.ndim == 4 else t for n, t in at.batches()(0, 0, 0, 4).items()}

    def light(module, given, out):
        score = given[0].mean((1, 2, 3))
        if isinstance(out, tuple):
            return score, out[1]
        return torch.cat([score[:, None], out[:, 1:]], 1) if out.ndim == 2 else score.view(-1, *[1] * (out.ndim - 1))

    for judge in judges(game).values():
        judge.register_forward_hook(light)
    for player in ("G", "F"):
        if hasattr(game, player):
            getattr(game, player).register_forward_hook(lambda module, given, out: out * 0 - 1)
    (loss,) = losses(game, "judge")
    game.pool_a, game.pool_b = torch.zeros(0), torch.zeros(0)
    assert run(game, loss, batch)["overfitting"] == 1


@every_game
def test_strengths_adapt_by_the_images_that_passed(name):
    """However often the judge moves in a step, and into however many shards a batch is cut."""
    at = case(name)
    for shards in (1, 2):
        game = at.build()
        game.augment.strength.zero_()
        game.augment.over_images = 200
        game.augment.terms = lambda real, fake: {"overfitting": torch.ones(())}
        loop = Loop(game, at.batches(shards))
        for _ in range(3):
            loop.step()
            assert float(game.augment.strength) == pytest.approx(loop.game.augment.images / 200)
        assert int(game.augment.images) == loop.state.images * 2 // 3  # before the last of three steps
        game.images = 10_000
        for turn in game.turns():
            if turn.players.startswith("D"):
                assert turn.then is not None
                turn.then({"overfitting": torch.ones(())})
        assert float(game.augment.strength) == pytest.approx(MOST)


@every_game
def test_no_augmentation_leaves_nothing_behind(name):
    game = case(name).game(case(name).source.spec, **{**case(name).options, "augment": ""})
    assert [n for n in game.state_dict() if n.startswith("augment")] == []
    assert game.augment.chain == []


@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_a_game_whose_images_no_judge_sees_says_who_has_the_option(cli, name):
    said = cli("train", name, "digits", "--augment", "flip")
    assert said.code == 2
    assert said.line.startswith(f"{name} has no option --augment; it is for acgan, cgan, ")


@pytest.mark.parametrize("name", [name for name in GAMES if not zoo.game_class(name).accepts(SOURCES["vectors"].spec)])
def test_points_are_not_augmented(name):
    with pytest.raises(OptionError, match=r"^augmentation 'ada' is for images; this data is of kind vector\.$"):
        zoo.build(name, SOURCES["vectors"].spec, augment="ada")


def test_a_strength_that_would_show_is_refused():
    with pytest.raises(OptionError, match=r"augment_end is at most 0\.8"):
        zoo.build("r3gan", SOURCES["images"].spec, augment="flip", augment_end=0.9)
