"""Drawing samples so that sample k of seed s is the same however many are drawn, and in whatever portions."""

import math
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elegan.errors import OptionError, ResourceError
from elegan.game import Game
from elegan.training.average import standing_statistics
from elegan.training.seeds import seed_at

BLOCK = 32  # noise is drawn, and samples are computed, in blocks of so many; the last is cut, never shortened


def must_fit(game: Game, n: int, asked: str) -> None:
    """Raise `ResourceError` unless `n` samples of a game could be in this machine's memory."""
    shape = game.spec["real"].shape if "real" in game.spec else ()
    values = n * math.prod(size or 1 for size in shape)
    if 4 * values > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise ResourceError(f"{asked}: so many samples do not fit into memory; draw fewer at a time.")


@torch.no_grad()
def draw(game: Game, n: int, *, seed: int = 0, label: Any = None, first: int = 0, **options: Any) -> Tensor:
    """Draw `n` samples of a game, (n, *shape), as tensors; the caller's random state is left as it was.

    label: None, one class for all, or a sequence of n classes; other `options` go to the game's `sample`.
    first: the number of the first sample, a multiple of 32, so that many can be drawn in portions.
    Raises `OptionError` if the game draws no samples or does not know an option, `ResourceError` for far too many.
    """
    if "generation" not in game.tasks:
        raise OptionError(f"{game.name} draws no samples from noise; it is for {', '.join(game.tasks)}.")
    if n < 1:
        raise OptionError(f"-n {n} must be 1 or more.")
    must_fit(game, n, f"-n {n}")
    if first % BLOCK:
        raise ValueError(f"first must be a multiple of {BLOCK}, not {first}")
    if label is not None and not game.labelled:
        raise OptionError(f"--label {label!r}: {game.name} knows no classes here; leave it out.")
    several = isinstance(label, (list, tuple, range))
    if several and len(label) != n:
        raise OptionError(f"{len(label)} labels for {n} samples; give one each, or one for all.")
    for one in set(label) if several else {label} - {None}:
        if not isinstance(one, (int, np.integer)) or isinstance(one, bool) or not 0 <= one < game.spec.classes:
            raise OptionError(f"--label {one!r} is no class: there are {game.spec.classes}, numbered from 0.")
    if label is not None and not several:
        options["label"] = label
    drawn = []
    devices = [game.device] if game.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), standing_statistics(game):
        for start in range(0, n, BLOCK):
            seed_at(game.device, seed, "sample", (first + start) // BLOCK)
            if several:
                part = list(label[start : start + BLOCK])
                options["label"] = torch.tensor(part + [part[-1]] * (BLOCK - len(part)))
            drawn.append(game.sample(BLOCK, **options))
    return torch.cat(drawn)[:n]
