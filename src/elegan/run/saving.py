"""Between a training in memory and a checkpoint on disk."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elegan.errors import CheckpointError
from elegan.game import Game
from elegan.run import checkpoint
from elegan.run.directory import RunDirectory
from elegan.run.events import EventLog
from elegan.training.distributed import world
from elegan.training.loop import Event, State
from elegan.training.still import Still

KEEP = 2  # newest checkpoints that stay
LEAST_SECONDS = 30.0
SAVES_COST = 50  # the interval is at least so many times what the last save took


def save(run: RunDirectory, game: Game, state: State, facts: Mapping[str, Any], still: Still | None = None) -> None:
    """Write a checkpoint of a training. Raises `ResourceError` if the disk refuses."""
    tensors = {
        "weights": arrays(named_state(game)),
        "average": arrays(named_state(state.average.game)),
        "optim": arrays(state.optim.tensors()),
    }
    if still is not None:
        tensors["still"] = arrays(still.before)
    place = {
        "images": state.images,
        "stream": state.stream,
        "changes": state.changes,
        "average_images": state.average.images,
    }
    checkpoint.write(run.checkpoints, state.step, tensors, {**facts, "state": place})
    best: int | None = None
    with suppress(CheckpointError):  # none is kept, or nobody knows which
        best = run.best_step()
    checkpoint.prune(run.checkpoints, KEEP, best)


def load_into(game: Game, state: State, found: checkpoint.Checkpoint) -> None:
    """Put a checkpoint into a game and a state built like those it was saved from, tensor by tensor, in place."""
    copy_named(named_state(game), found.tensors["weights"], found)
    copy_named(named_state(state.average.game), found.tensors["average"], found)
    try:
        state.optim.load({name: torch.from_numpy(t) for name, t in found.tensors["optim"].items()})
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{found.path}: its moments do not fit this game: {error}") from error
    place = found.facts["state"]
    state.step, state.images, state.stream = found.step, place["images"], place["stream"]
    state.changes = dict(place["changes"])
    state.average.images = place["average_images"]


def named_state(game: Game) -> dict[str, Tensor]:
    """Parameters and persistent buffers by one name each, also where two modules share one."""
    named: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in game.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            named[name] = tensor.detach()
    return named


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors as contiguous arrays in main memory."""
    return {name: t.detach().cpu().contiguous().numpy() for name, t in tensors.items()}


@torch.no_grad()
def copy_named(targets: Mapping[str, Tensor], sources: Mapping[str, np.ndarray], found: checkpoint.Checkpoint) -> None:
    """Copy values into tensors that exist, so that their strides stay. Raises `CheckpointError` if names differ."""
    if targets.keys() != sources.keys():
        odd = sorted(targets.keys() ^ sources.keys())
        raise CheckpointError(f"{found.path} does not fit this game: {odd[0]!r} is only on one side.")
    for name, target in targets.items():
        value = torch.from_numpy(sources[name])
        if value.shape != target.shape:
            shapes = f"{tuple(value.shape)} there, {tuple(target.shape)} here"
            raise CheckpointError(f"{found.path} does not fit this game: {name!r} is {shapes}.")
        target.copy_(value)


class Checkpointer:
    """A listener that saves every max(30 s, 50 × what the last save took), on the first rank."""

    def __init__(self, run: RunDirectory, log: EventLog, facts: Mapping[str, Any], still: Still | None = None):
        self.run, self.log, self.facts, self.still = run, log, facts, still
        self.last, self.cost = time.monotonic(), 0.0
        self.saved_step = -1

    def __call__(self, event: Event) -> None:
        if time.monotonic() - self.last >= max(LEAST_SECONDS, SAVES_COST * self.cost):
            self.save(event.game, event.state)

    def save(self, game: Game, state: State) -> None:
        """Save now, unless this very step is saved."""
        if world().rank == 0 and state.step != self.saved_step:
            start = time.monotonic()
            save(self.run, game, state, self.facts, self.still)
            self.cost = time.monotonic() - start
            self.log.write("checkpoint", step=state.step, cost=round(self.cost, 3))
        self.last, self.saved_step = time.monotonic(), state.step
