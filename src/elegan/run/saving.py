"""Between a training in memory and a checkpoint on disk, both ways; and the way back from trouble."""

import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from elegan.errors import CheckpointError, ResourceError
from elegan.game import Game
from elegan.run import checkpoint
from elegan.run.directory import RunDirectory
from elegan.run.events import EventLog
from elegan.training.distributed import world
from elegan.training.loop import Event, State

LEAST_SECONDS = 30.0
SAVES_COST = 50  # the interval is at least so many times what the last save took
RECOVERED = 1_000  # so many steps past a trouble it is over, and what comes later is another one


class Memory(Protocol):
    """A listener with something that a checkpoint keeps, as tensors by name in a file of its own."""

    name: str

    def tensors(self) -> dict[str, Tensor]: ...

    def recall(self, tensors: dict[str, Tensor]) -> None: ...


def save(
    run: RunDirectory,
    game: Game,
    state: State,
    facts: Mapping[str, Any],
    memories: Sequence[Memory] = (),
    keep: int = 2,
) -> None:
    """Write a checkpoint of a training; besides the newest `keep`, the best and the last healthy one stay.

    Raises `ResourceError` if the disk refuses.
    """
    tensors = {
        "weights": arrays(named_state(game)),
        "average": arrays(named_state(state.average.game)),
        "optim": arrays(state.optim.tensors()),
        **{memory.name: arrays(memory.tensors()) for memory in memories},
    }
    place = {
        "images": state.images,
        "stream": state.stream,
        "changes": state.changes,
        "average_images": state.average.images,
        "rollbacks": state.rollbacks,
        "trouble": state.trouble,
        "bad": state.bad_until_now(),
    }
    told = {**facts, "state": place, "ailments": sorted(state.ails())}
    checkpoint.write(run.checkpoints, state.step, tensors, told)
    best: int | None = None
    with suppress(CheckpointError):  # none is kept, or nobody knows which
        best = run.best_step()
    checkpoint.prune(run.checkpoints, keep, best)
    for old in run.checkpoints.glob("step-*.abandoned-*"):
        shutil.rmtree(old, ignore_errors=True)


def load_into(game: Game, state: State, found: checkpoint.Checkpoint, memories: Sequence[Memory] = ()) -> None:
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
    state.rollbacks, state.trouble = place.get("rollbacks", 0), place.get("trouble", 0)
    state.bad, state.report = list(place.get("bad", ())), None
    state.ailments = set(found.facts.get("ailments", ()))
    for memory in memories:
        kept = {name: torch.from_numpy(t) for name, t in found.tensors.get(memory.name, {}).items()}
        try:
            memory.recall(kept)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{found.path}: its {memory.name}.safetensors does not fit: {error!r}.") from error


def go_back(game: Game, state: State, found: checkpoint.Checkpoint, memories: Sequence[Memory] = ()) -> None:
    """Take a training in trouble back to a checkpoint, to go on with other noise; slower if the trouble is not new.

    What listeners have changed since stays changed. Rates are halved from the second rollback on.
    """
    trouble, changes, stream = state.step, dict(state.changes), state.stream
    rollbacks = tries(state)
    state.whole = False  # what fails half-way is nothing to save
    load_into(game, state, found, memories)
    state.whole = True
    state.stream, state.trouble, state.rollbacks = stream + 1, trouble, rollbacks + 1
    state.changes = changes | ({"rates": changes.get("rates", 1.0) / 2} if rollbacks else {})


def tries(state: State) -> int:
    """The rollbacks that did not get a training past the trouble it is in."""
    return state.rollbacks if state.step < state.trouble + RECOVERED else 0


def abandon(folder: Path, step: int) -> None:
    """Set checkpoints after a step aside: training goes on from there another way. The next save clears them away.

    Raises `ResourceError` if the disk refuses: one that stayed would pass for what is saved at its step later.
    """
    for path in checkpoint.steps(folder):
        if int(path.name.removeprefix("step-")) > step:
            try:
                path.rename(path.with_name(f"{path.name}.abandoned-{uuid.uuid4().hex[:8]}"))
            except OSError as error:
                raise ResourceError(f"{path} cannot be renamed ({error.strerror}); mend that, then resume.") from error


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

    def __init__(
        self,
        run: RunDirectory,
        log: EventLog,
        facts: Mapping[str, Any],
        memories: Sequence[Memory] = (),
        keep: int = 2,
    ):
        self.run, self.log, self.facts, self.memories, self.keep = run, log, facts, memories, keep
        self.last, self.cost = time.monotonic(), 0.0
        self.saved_step = -1

    def __call__(self, event: Event) -> None:
        if time.monotonic() - self.last >= max(LEAST_SECONDS, SAVES_COST * self.cost):
            self.save(event.game, event.state)

    def save(self, game: Game, state: State) -> None:
        """Save now, unless this very step is saved."""
        if world().rank == 0 and state.step != self.saved_step:
            start = time.monotonic()
            save(self.run, game, state, self.facts, self.memories, self.keep)
            self.cost = time.monotonic() - start
            self.log.write("checkpoint", step=state.step, cost=round(self.cost, 3))
        self.last, self.saved_step = time.monotonic(), state.step
