"""A trained game: what a run directory gives back, from its newest whole checkpoint and nothing else."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from elegan import zoo
from elegan.data.codec import ImageCodec, codec_of
from elegan.errors import CheckpointError, OptionError, nearest
from elegan.exporting.pictures import classes_of, interpolation_of
from elegan.exporting.samples import Samples
from elegan.game import Game
from elegan.options import check, of_callable
from elegan.run import checkpoint as checkpoints
from elegan.run.directory import Plan, RunDirectory
from elegan.run.saving import copy_named, named_state
from elegan.spec import Spec
from elegan.tasks.generate import draw
from elegan.tasks.translate import translate


class Model:
    """A trained game: what a run directory gives back. Draws from the averaged players."""

    def __init__(self, run: RunDirectory, plan: Plan, game: Game, step: int, stopped_by: str = ""):
        self.run, self.plan, self.game, self.step, self.stopped_by = run, plan, game, step, stopped_by

    def __repr__(self) -> str:
        return f"Model({self.game.name} on {self.plan['data']['name']}, {self.step} steps, {self.run.path})"

    def sample(self, n: int = 64, *, seed: int = 0, label: Any = None, **options: Any) -> Samples:
        """Draw `n` samples. Sample k of a seed is the same whatever `n` is.

        label: a class, a sequence of n classes, or None. options: what the game's `sample` takes besides.
        Raises `OptionError` for what the game does not know.
        """
        file = zoo.describe(self.plan["game"])
        known = {o.name: o for o in file.sample_options}
        given = dict(options) if label is None else {"label": label, **options}
        for name in given:
            if name not in known:
                raise OptionError(f"{file.name} samples know no {name!r}.{nearest(name, known)}")
        drawn = draw(self.game, n, seed=seed, **given)
        values = codec_of(self.game.spec["real"]).decode(drawn)
        facts = {**self.facts(), "seed": seed, **given}
        return Samples(values, self.game.spec["real"], facts)

    def interpolate(self, rows: int = 8, steps: int = 10, *, seed: int = 0, label: Any = None) -> Samples:
        """Walk through the noise: row k goes from sample k of `seed` to sample k of the next seed in so many steps.

        label: a class for all rows, a sequence of one for each, or None for one after the other.
        Raises `OptionError` for a game that draws no samples from noise.
        """
        return interpolation_of(self.game, self.facts(), rows, steps, seed=seed, label=label)

    def classes(self, columns: int = 10, *, seed: int = 0) -> Samples:
        """Draw every class in a row of its own, with the same noise down a column.

        Raises `OptionError` for a game that knows no labels.
        """
        return classes_of(self.game, self.facts(), columns, seed=seed)

    def translate(self, images: np.ndarray, *, direction: str = "ab") -> Samples:
        """Translate raw images (N, C, H, W) from one side to the other.

        They are of the side's type, or of another: whole numbers then have the range of theirs, floats [0, 1] or
        [-1, 1] if that holds them.
        """
        source, target = direction if direction in ("ab", "ba") else ("a", "b")
        codec = codec_of(self.game.spec[source])
        if isinstance(codec, ImageCodec) and str(images.dtype) != codec.dtype:
            codec = ImageCodec.fit(images)
        encoded = codec.encode(torch.from_numpy(np.ascontiguousarray(images)))
        values = codec_of(self.game.spec[target]).decode(translate(self.game, encoded, direction=direction))
        return Samples(values, self.game.spec[target], {**self.facts(), "direction": direction})

    def facts(self) -> dict[str, object]:
        """What is written into every picture of this model."""
        return {"game": self.plan["game"], "data": self.plan["data"]["name"], "step": self.step}


def load(run: str | os.PathLike[str], *, checkpoint: str = "newest") -> Model:
    """The model of a run, from one checkpoint and nothing else, on the CPU in float32.

    checkpoint: "newest", or "best": that of the best score while it trained (see `score` of `train`).
    Raises `CheckpointError` if there is no whole one.
    """
    directory = RunDirectory.open(run)
    plan = directory.read_options()
    if checkpoint not in ("newest", "best"):
        raise OptionError(f"--checkpoint {checkpoint!r} is neither newest nor best.")
    if checkpoint == "best":
        found = checkpoints.at(directory.checkpoints, directory.best_step())
    else:
        found = checkpoints.newest(directory.checkpoints, trained=True)
    try:
        spec = Spec.from_json(plan["spec"])
    except ValueError as error:
        raise CheckpointError(f"{directory.options_file} is damaged ({error}).") from error
    try:
        average, images = found.tensors["average"], int(found.facts["state"]["images"])
        changes = from_json(found.facts["state"]["changes"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{found.path} is no checkpoint of a training ({error!r}).") from error
    game = zoo.build(plan["game"], spec, **from_json(plan["options"]))
    copy_named(named_state(game), average, found)
    known = [option for option in of_callable(type(game).__init__) if option.name in changes]
    for name, value in check(known, {o.name: changes[o.name] for o in known}, game.name).items():
        if not isinstance(getattr(game, name), nn.Module):
            setattr(game, name, value)
    game.eval().requires_grad_(False)
    if "converted" in plan:  # no average: its statistics are those of its weights, and need no measuring anew
        for part in game.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.track_running_stats = False
    game.step, game.images = found.step, images
    game.before()
    return Model(directory, plan, game, found.step)


def from_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON gives them back: its lists are the tuples they were."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
