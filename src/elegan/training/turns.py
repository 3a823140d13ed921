"""Reading turns and phases: which phase a step is in, how many batches it reads, which fields a loss wants."""

import inspect
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from elegan.game import Game, Phase, Turn


def phase_at(game: Game, step: int) -> tuple[Phase, int]:
    """The phase of a step and the step at which it began; the last phase goes on for ever."""
    begin = 0
    phases = game.phases()
    for phase in phases[:-1]:
        if phase.steps is None or step < begin + phase.steps:
            return phase, begin
        begin += phase.steps
    return phases[-1], begin


def batches_per_step(turns: Iterable[Turn]) -> int:
    """Batches one step reads: as many as the loss that runs most often makes runs."""
    runs: Counter[Any] = Counter()
    for turn in turns:
        runs[turn.loss] += turn.repeat
    return max(runs.values())


def steps_for(game: Game, images: int, batch: int) -> int:
    """Steps after which a training has read at least so many real images."""
    step = 0
    a_step = batch
    for phase in game.phases():
        a_step = batch * batches_per_step(phase.turns())
        needed = -(-images // a_step)
        if phase.steps is None or needed <= phase.steps:
            return step + needed
        step, images = step + phase.steps, images - phase.steps * a_step
    return step + -(-images // a_step)


def turn_name(turn: Turn) -> str:
    """How a turn's movers are called in logs and changes: `D`, `G+F`."""
    return turn.players.replace(" ", "+")


def fields_of(loss: Any) -> dict[str, bool]:
    """The fields a loss reads, by its signature, and whether it does without them (`label=None`)."""
    return _fields_of(getattr(loss, "__func__", loss))


@cache
def _fields_of(function: Any) -> dict[str, bool]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default is not p.empty for p in parameters if p.name != "self"}
