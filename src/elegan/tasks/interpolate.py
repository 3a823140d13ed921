"""Ways through the noise, and one noise in every class: what a trained generator has made of its latent space."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elegan.errors import OptionError
from elegan.game import Game
from elegan.tasks.generate import BLOCK, draw, must_fit
from elegan.tasks.passing import passing
from elegan.training.average import standing_statistics
from elegan.training.seeds import seed_at


# White, 2016, "Sampling generative networks" (arXiv 1609.04468), section 2.1
def slerp(first: Tensor, last: Tensor, share: float) -> Tensor:
    """From `first` (share 0) to `last` (share 1) on the great arc between them, row by row.  (n, z) -> (n, z)

    Gaussian noise lives near a sphere, which a straight way would leave; rows without an angle between take that way.
    """
    cosine = torch.nn.functional.cosine_similarity(first.double(), last.double(), dim=1)
    angle = cosine.clamp(-1, 1).acos()[:, None]
    curved = angle.sin() > 1e-4
    weights = [torch.where(curved, (s * angle).sin() / angle.sin(), s).to(first) for s in (1 - share, share)]
    return weights[0] * first + weights[1] * last


@torch.no_grad()
def interpolate(
    game: Game, rows: int = 8, steps: int = 10, *, seed: int = 0, label: int | Sequence[int] | None = None
) -> Tensor:
    """`rows` ways of `steps` samples each, row by row.  (rows · steps, *shape)

    Row k goes from sample k of the seed to sample k of the next seed, as `draw` draws them, by `slerp`; whatever else
    is random in a sample stays as it was at the start. label: one class for all, or one for each row; of a labelled
    game by default each row has the next class.
    Raises `OptionError` for a game that draws no samples from noise, too few rows or steps, or a label that is none.
    """
    for name, value, least in (("rows", rows, 1), ("steps", steps, 2)):
        if type(value) is not int or value < least:
            raise OptionError(f"--{name} {value!r} must be a whole number, {least} or more.")
    if "generation" in game.tasks:
        must_fit(game, rows * steps, f"--rows {rows} --steps {steps}")
    if label is None and game.labelled:
        label = [k % game.spec.classes for k in range(rows)]
    columns = [draw(game, rows, seed=seed, label=label)]  # which says what is wrong with the labels, too
    several = isinstance(label, (list, tuple, range))
    options: dict[str, Any] = {} if label is None or several else {"label": label}
    parts: list[list[Tensor]] = [[] for _ in range(steps - 1)]
    devices = [game.device] if game.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), standing_statistics(game):
        for start in range(0, rows, BLOCK):
            if several:
                part = list(label[start : start + BLOCK])
                options["label"] = torch.tensor(part + [part[-1]] * (BLOCK - len(part)))
            last: list[Tensor] = []
            seed_at(game.device, seed + 1, "sample", start // BLOCK)
            with passing(game, "noise", lambda z, last=last: last.append(z) or z):
                game.sample(BLOCK, **options)
            if not last:
                raise OptionError(f"{game.name} has no noise to interpolate; it needs a game with an option z_dim.")
            for step in range(1, steps):
                ends, share = iter(last), step / (steps - 1)
                seed_at(game.device, seed, "sample", start // BLOCK)
                with passing(game, "noise", lambda z, ends=ends, share=share: slerp(z, next(ends), share)):
                    parts[step - 1].append(game.sample(BLOCK, **options))
    columns += [torch.cat(part)[:rows] for part in parts]
    return torch.stack(columns, 1).flatten(0, 1)


@torch.no_grad()
def classes(game: Game, columns: int = 10, *, seed: int = 0) -> Tensor:
    """Every class in a row of its own, with the same noise down a column.  (classes · columns, *shape)

    Column k of the row of a class is sample k of the seed for that label, as `draw` draws it.
    Raises `OptionError` for a game that knows no labels.
    """
    if not game.labelled:
        raise OptionError(f"{game.name} knows no classes here; it needs data with labels, and a game that reads them.")
    if type(columns) is not int or columns < 1:
        raise OptionError(f"--columns {columns!r} must be a whole number, 1 or more.")
    return torch.cat([draw(game, columns, seed=seed, label=k) for k in range(game.spec.classes)])
