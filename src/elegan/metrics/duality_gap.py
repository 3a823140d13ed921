"""The duality gap: how much either player of a game could still gain if the other stood still. Nothing, at the end.

Grnarova, Kilcher, Levy, Lucchi and Hofmann, 2019, "A domain agnostic measure for monitoring and evaluating GANs",
arXiv:1811.05512, Equation 2: max_D V(D, G) − min_G V(D, G), each taken by a short training of one player alone.

    found = duality_gap(model.game, Batches(train, rows=64), Batches(test, rows=64))
    found.gap.value, found.gap.interval()
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch

from elegan.data.batches import Batches
from elegan.errors import OptionError
from elegan.game import Game
from elegan.metrics.estimate import Estimate
from elegan.training.distributed import World
from elegan.training.loop import Loop, State
from elegan.training.seeds import seed_at
from elegan.training.turns import fields_of, phase_at

MOVES = 200  # of each player alone
READINGS = 64  # held-out batches that values are read on


@dataclass(frozen=True)
class DualityGap:
    """gap: worst_judge − worst_generator. worst_judge: max_D V(D, G). worst_generator: min_G V(D, G). moves: of each.

    V is minus the adversarial term of the judge's own loss: E log D + E log(1 − D) where it is cross entropy, a
    difference of means where it is Wasserstein's. So gaps compare among games of one loss, and other weights of it.
    """

    gap: Estimate
    worst_judge: float
    worst_generator: float
    moves: int


def duality_gap(game: Game, batches: Batches, held_out: Batches, *, moves: int = MOVES, seed: int = 0) -> DualityGap:
    """The duality gap of a game: both players answer on `batches`, values are read on batches of `held_out`.

    Each player starts as it is and with no moments, moves by its own turn at the rate its training began with, and
    finds the other as a function that stands still; the game's schedules stand where the game does. What is short of
    the best answer makes the gap smaller, and of a good game it may come out a little below 0.
    The gap's influences are those of the held-out batches, the same batches and noise for both values.
    The game, its buffers and the caller's random state are left as they were.
    Raises OptionError for a game of other turns than one of `D` alone and one of `G` alone, ValueError for no moves.
    """
    if moves < 1:
        raise ValueError(f"each player makes 1 move or more, not {moves}")
    devices = [game.device] if game.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        high, low = (
            _readings(_answered(game, name, rate, batches, moves, seed), held_out, seed)
            for name, rate in _rates(game).items()
        )
    gap = Estimate(float((high - low).mean()), (high - low,))
    return DualityGap(gap, float(high.mean()), float(low.mean()), moves)


def _rates(game: Game) -> dict[str, float]:
    """The rates that the training of D and of G began with. Raises `OptionError` if others move, or both at once."""
    first = copy.deepcopy(game)
    phase, _ = phase_at(first, game.step)
    first.step = first.images = 0
    turns = phase.turns()
    if sorted(turn.players for turn in turns) != ["D", "G"]:
        what = " then ".join(turn.players.replace(" ", " and ") for turn in turns)
        raise OptionError(f"{game.name} has no duality gap, which is between D and G moving in turn; it moves {what}.")
    return {name: turn.optim.lr for name in "DG" for turn in turns if turn.players == name}


def _answered(game: Game, name: str, rate: float, batches: Batches, moves: int, seed: int) -> Game:
    """A copy of a game after so many moves of one player alone; its generator draws as it does in training."""
    other = copy.deepcopy(game)
    state = State.fresh(other)
    state.step, state.images, state.changes = game.step, game.images, {f"{name}.lr": rate}
    loop = Loop(other, batches, seed=seed, state=state)
    loop.world, loop.shards = World(), range(batches.shards)  # by this process alone, whoever its peers are
    made = 0
    while made < moves:
        turns = loop.begin()
        other.D.train(name == "D")
        turn = next(turn for turn in turns if turn.players == name)
        if state.step % turn.every == 0:
            for _ in range(min(turn.repeat, moves - made)):
                loop.advance(turn)
                made += 1
        loop.end()
    loop.examine_last()
    return other


def _readings(game: Game, batches: Batches, seed: int) -> np.ndarray:
    """V on each of `READINGS` batches, the judge in eval mode.  (READINGS,)"""
    game.requires_grad_(False)
    game.D.eval()
    game.rows = batches.rows
    loss = next(turn.loss for turn in phase_at(game, game.step)[0].turns() if turn.players == "D")
    fields = [name for name, optional in fields_of(loss).items() if name in batches.spec or not optional]
    values = []
    for number in range(READINGS):
        given = batches(seed, number, 0, batches.rows, fields)
        seed_at(game.device, seed, "duality gap", number)
        terms = loss(**given)
        if "adv" not in terms:
            raise OptionError(f"{game.name} has no duality gap: its judge's loss has no term 'adv'.")
        values.append(-float(terms["adv"].detach()))
    return np.array(values)
