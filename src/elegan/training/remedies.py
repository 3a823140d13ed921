"""What to do about an alarm: in words that name the options a game has, and as a change of the training under way.

A remedy is a function of where a game's options and rates stand now, so applied again it goes further.
"""

from collections.abc import Callable
from typing import NamedTuple

from elegan import zoo
from elegan.game import Game
from elegan.training.loop import Change, Event
from elegan.training.probe import judge_of
from elegan.training.turns import turn_name


class Remedy(NamedTuple):
    """words: as flags of a new training. change: the same for the one under way; empty where nothing can be changed."""

    words: str
    change: Change


class Place(NamedTuple):
    """Where a training stands: its game, the rates of its turns, by which `factor` they are changed, and the turn of
    its judge, if it has one."""

    game: Game
    rates: dict[str, float]
    factor: float
    judge: str | None

    @classmethod
    def of(cls, event: Event) -> "Place":
        rates = {turn_name(turn): turn.optim.lr for turn in event.turns}
        return cls(event.game, rates, event.state.changes.get("rates", 1.0), judge_of(event.terms))


def calmer_loss(place: Place) -> Remedy | None:
    """Minimax has no gradient where the judge is sure (Goodfellow et al. 2014, 1406.2661, section 3)."""
    if place.game.options.get("loss") != "minimax" or place.game.loss != "minimax":
        return None
    return Remedy("--loss non-saturating", {"loss": "non-saturating"})


def penalty(place: Place) -> Remedy | None:
    """A penalty on the judge's gradient makes training converge (Mescheder et al. 2018, 1801.04406)."""
    for name, least, most in (("gamma", 0.1, 10.0), ("gp", 1.0, 100.0)):
        if name in place.game.options and (now := getattr(place.game, name)) < most:
            value = min(max(3 * now, least), most)
            ends = {"gamma_end": value} if name == "gamma" and "gamma_end" in place.game.options else {}
            return Remedy(f"--{name} {value:g}", {name: value, **ends})
    return None


def slower_judge(place: Place) -> Remedy | None:
    """A quarter of the judge's rate (two rates: Heusel et al. 2017, 1706.08500)."""
    if place.judge is None:
        return None
    game, rate = place.game, place.rates[place.judge] / 4
    if "judge_lr" in game.options:
        rate = (game.lr if game.judge_lr is None else game.judge_lr) / 4
        return Remedy(f"--judge-lr {rate:.2g}", {"judge_lr": rate})
    return Remedy(f"--lr {rate:.2g}", {f"{place.judge}.lr": rate / place.factor})


def fewer_moves(place: Place) -> Remedy | None:
    """One move of the judge for each of the generator."""
    name = next((n for n in ("k", "n_critic") if n in place.game.options and getattr(place.game, n) > 1), None)
    return Remedy(f"{'-' if name == 'k' else '--'}{name.replace('_', '-')} 1", {name: 1}) if name else None


def noise(place: Place) -> Remedy | None:
    """Noise on what the judge sees makes both sides overlap (Sønderby et al. 2016, 1610.04490)."""
    game = place.game
    if "instance_noise" not in game.options or game.instance_noise >= 0.4:
        return None
    deviation, over = max(0.1, 2 * game.instance_noise), 2 * game.images + 500_000
    return Remedy(f"--instance-noise {deviation:g}", {"instance_noise": deviation, "noise_images": over})


def augmentation(place: Place) -> Remedy | None:
    """Of what the judge sees; only a new training can have it (Karras et al. 2020, 2006.06676)."""
    options, image = place.game.options, "real" in place.game.spec and place.game.spec.kind == "image"
    return Remedy("--augment ada", {}) if options.get("augment") == "" and image else None


def slower(place: Place) -> Remedy | None:
    """Half of all rates."""
    return Remedy(f"--lr {max(place.rates.values()) / 2:.2g}", {"rates": place.factor / 2})


def faster(place: Place) -> Remedy | None:
    """Ten times all rates, where they are low."""
    rate = max(place.rates.values())
    aim = min(max(10 * rate, 2e-4), 1e-3)
    return Remedy(f"--lr {aim:.2g}", {"rates": aim / rate * place.factor}) if 0 < rate <= aim / 2 else None


def less_momentum(place: Place) -> Remedy | None:
    """Momentum makes players circle (Gidel et al. 2019, 1807.04740)."""
    return Remedy("--beta1 0", {"beta1": 0.0}) if place.game.options.get("beta1") and place.game.beta1 else None


def wider(place: Place) -> Remedy | None:
    """More room in the networks; only a new training can have it."""
    name = next((n for n in ("widths", "width") if n in place.game.options), None)
    return Remedy(f"more units by --{name}", {}) if name else None


REMEDIES: dict[str, tuple[Callable[[Place], Remedy | None], ...]] = {
    "collapse": (calmer_loss, penalty, less_momentum, slower),
    "overpowering": (calmer_loss, penalty, slower_judge, noise, fewer_moves),
    "vanishing": (calmer_loss, penalty, noise, slower_judge),
    "overfitting": (augmentation, penalty, noise, slower_judge),
    "oscillation": (less_momentum, penalty, slower),
    "stall": (faster, calmer_loss, wider),
}


def remedies(name: str, place: Place) -> list[Remedy]:
    """The remedies of an alarm that a game has the options for, the best first."""
    return [remedy for make in REMEDIES[name] if (remedy := make(place)) is not None]


def in_words(found: list[Remedy], game: Game) -> str:
    """At most three remedies as a sentence, and the game's preset that has them all, if it has one."""
    words = [remedy.words for remedy in found[:3]]
    if game.name in zoo.names() and "stable" in zoo.describe(game.name).presets:
        words.append("--preset stable")
    return f"try {', or '.join(words)}" if words else "try another game"
