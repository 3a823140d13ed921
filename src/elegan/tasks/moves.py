"""The first moves of a training, one side at a time: what the judge learns alone, and what the generator then does."""

import copy
from collections.abc import Iterator

from elegan.data.batches import Batches
from elegan.game import Game
from elegan.tasks.judge import side_of
from elegan.training.distributed import World
from elegan.training.loop import Loop

MOVES = (100, 6)  # of the judge, and of the generator, which alone soon runs past a judge that stands still


def one_sided(
    game: Game, batches: Batches, *, seed: int = 0, moves: tuple[int, int] = MOVES
) -> Iterator[tuple[str, Game]]:
    """A game with its first weights; then after at least so many moves of its judge alone; then of its generator alone.

    Each as a title that says how many moves were made, and a frozen copy of the game. Randomness is a function of the
    seed and the place, so this is what a run of that seed would have done if only these turns had moved. Of a game
    whose turns are not either those of `D` or those of `G`, only the start.
    """
    yield "start", _still(game)
    loop = Loop(game, batches, seed=seed)
    loop.world, loop.shards = World(), range(batches.shards)  # by this process alone, whoever its peers are
    for side, wanted in zip(("judge", "generator"), moves, strict=True):
        made = 0
        while made < wanted:
            turns = loop.begin()
            if {side_of(turn) for turn in turns} != {"judge", "generator"}:
                return
            for turn in turns:
                if side_of(turn) == side and loop.state.step % turn.every == 0:
                    for _ in range(turn.repeat):
                        loop.advance(turn)
                        made += 1
            loop.end()
        yield f"after {made} moves of the {side}", _still(game)


def _still(game: Game) -> Game:
    return copy.deepcopy(game).eval().requires_grad_(False)
