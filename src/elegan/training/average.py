"""The moving average of the players, from which samples are drawn."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from elegan.game import Game
from elegan.training.seeds import seed_at

UPDATES_PER_HALF_LIFE = 20  # finer costs memory bandwidth and changes nothing one can measure


class Average:
    """An exponential moving average of a game, counted in images rather than steps.

    half_life_images: after so many images a past state weighs one half; 0 follows the game exactly.
    ramp: early on the half-life is at most this share of the images seen so far.

    Parameters are averaged, buffers copied; the averaged game is always in eval mode.
    """

    def __init__(self, game: Game, *, half_life_images: float = 20_000, ramp: float = 0.05):
        self.game = copy.deepcopy(game).eval().requires_grad_(False)
        self.half_life_images = half_life_images
        self.ramp = ramp
        self.images = 0  # images seen at the last update
        self._followed = game
        self._parameters: tuple[list[Tensor], list[Tensor]] = [*self.game.parameters()], [*game.parameters()]
        self._buffers = [*zip(self.game.buffers(), game.buffers(), strict=True)]

    @torch.no_grad()
    def update(self, unless: Tensor | None = None) -> None:
        """Move towards the game as it is now; waits until a twentieth of the half-life has passed.

        unless: a flag on the device; where it is 1, parameters and buffers stay as they are.
        """
        self.game.step, self.game.images = self._followed.step, self._followed.images
        self._follow(self._followed.images, unless)
        self.game.before()  # gates stand where the images do, as they will after loading

    def _follow(self, images: int, unless: Tensor | None) -> None:
        half_life = min(self.half_life_images, images * self.ramp)
        passed = images - self.images
        if passed * UPDATES_PER_HALF_LIFE < half_life:
            return
        weight = 1 - 0.5 ** (passed / half_life) if half_life > 0 else 1.0
        mine, its = self._parameters
        buffers = self._buffers
        if unless is not None:
            its = [torch.where(unless > 0, here, there) for here, there in zip(mine, its, strict=True)]
            buffers = [(here, torch.where(unless > 0, here, there)) for here, there in buffers]
        torch._foreach_lerp_(mine, its, weight)
        for here, there in buffers:
            here.copy_(there)
        self.images = images


@contextmanager
def standing_statistics(game: Game, *, batches: int = 16, rows: int = 64, seed: int = 0) -> Iterator[Game]:
    """Inside, BatchNorm layers hold the statistics of `game`'s own samples (1809.11096, section 2), freshly measured.

    Averaged weights and running statistics of other weights do not fit each other. On leaving, buffers and modes are
    as before. A game without BatchNorm, or that draws no samples, passes unchanged.
    """
    norms = [m for m in game.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms or "generation" not in game.tasks:
        yield game
        return
    before: list[tuple[Tensor, Tensor]] = [(b, b.clone()) for b in game.buffers()]
    ways = [(m.momentum, m.training) for m in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        with torch.no_grad():
            for number in range(batches):
                seed_at(game.device, seed, "standing", number)
                game.sample(rows)
        for norm in norms:
            norm.eval()
        yield game
    finally:
        for norm, (momentum, training) in zip(norms, ways, strict=True):
            norm.momentum = momentum
            norm.train(training)
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
