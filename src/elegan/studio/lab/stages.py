"""A round in slow motion: each move in five stages, told from what that very move did.

The move is made once, for real, and listened to; the stages then show it one by one, the first four of the game as it
was before, the last of the game as it is after.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elegan.game import Game, Turn
from elegan.studio.lab.bench import Bench
from elegan.studio.lab.views import Arrays, View
from elegan.training.turns import fields_of, turn_name

STAGES = ("draw", "judge", "loss", "gradient", "update")


@dataclass(frozen=True)
class Scene:
    """What one stage shows. stage: `Stage` of the page's contract. game: of which points and surface are drawn."""

    stage: dict[str, Any]
    game: Game
    arrays: Arrays
    figures: dict[str, float]


@dataclass(frozen=True)
class Heard:
    """What a move did. real, drawn: its batches, encoded, if it had any. pulled: minus the loss's gradient at drawn."""

    real: Tensor | None
    drawn: Tensor | None
    pulled: Tensor | None
    figures: dict[str, float]
    gradient: float
    moved: float


def scenes(bench: Bench, view: View) -> Iterator[Scene]:
    """The stages of what is left of a bench's round; asking for the first of a move makes the move. Does not end it."""
    while not bench.ended and (left := bench.left()):
        turn = left[0]
        moves, move = turn.repeat, turn.repeat - left.count(turn) + 1
        was = copy.deepcopy(bench.game)
        heard = listened(bench, turn, was)
        arrays, figures = told(view, was, heard)
        for number, name in enumerate(STAGES, 1):
            stage = {
                "player": turn_name(turn), "name": name, "number": number, "of": len(STAGES), "move": move,
                "moves": moves,
            }  # fmt: skip
            yield Scene(stage, bench.game if name == "update" else was, arrays[name], figures[name])
        if bench.state.whole:  # it was ended meanwhile, and what is left would be of the next one
            return


def listened(bench: Bench, turn: Turn, was: Game) -> Heard:
    """Make a move, and tell what it did. was: a copy of the game before it."""
    real = None
    if "real" in fields_of(turn.loss):
        batches = bench.loop.batches
        real = batches(bench.loop.seed, bench.number(turn), 0, batches.rows, ["real"])["real"]
    seen: list[Tensor] = []

    def listen(module: torch.nn.Module, inputs: Any, out: Tensor) -> None:
        if not seen:
            seen.append(out)
            if out.requires_grad:
                out.retain_grad()

    hook = bench.game.G.register_forward_hook(listen)
    try:
        terms = bench.move(turn)
    finally:
        hook.remove()
    drawn = seen[0].detach() if seen else None
    grad = seen[0].grad if seen else None
    gradients = [p.grad for p in bench.game.parameters() if p.grad is not None and p.requires_grad]
    pairs = zip(bench.game.parameters(), was.parameters(), strict=True)
    return Heard(
        real,
        drawn,
        None if grad is None else -grad,
        {name: float(value) for name, value in terms.items()},
        _norm(gradients),
        _norm([now.detach() - before.detach() for now, before in pairs]),
    )


def told(view: View, was: Game, heard: Heard) -> tuple[dict[str, Arrays], dict[str, dict[str, float]]]:
    """What each stage shows of a move: arrays and figures by the name of the stage, each with what came before."""
    sides = {"real": heard.real, "fake": heard.drawn}
    batches = {f"batch_{side}": view.raw(points) for side, points in sides.items() if points is not None}
    judged: Arrays = {}
    for side, points in sides.items():
        said = None if points is None else view.judge(was, points, points if heard.drawn is None else heard.drawn)
        judged |= {} if said is None else {f"batch_judged_{side}": said}
    pulled = {} if heard.pulled is None else {"batch_arrows": view.ways(heard.pulled)}
    terms, gradient = heard.figures, {**heard.figures, "grad": heard.gradient}
    return (
        {
            "draw": batches,
            "judge": batches | judged,
            "loss": batches | judged,
            "gradient": batches | judged | pulled,
            "update": batches | judged | pulled,
        },
        {"draw": {}, "judge": {}, "loss": terms, "gradient": gradient, "update": gradient | {"moved": heard.moved}},
    )


def _norm(tensors: list[Tensor]) -> float:
    return float(torch.stack(torch._foreach_norm(tensors)).norm()) if tensors else 0.0
