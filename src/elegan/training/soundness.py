"""What of a training is to be finite, and whether it is: parameters, moments, buffers and the average.

A number whose square is infinite counts as infinite where it is a parameter or a first moment. The optimisers square
gradients and divide by roots; below that bound, 1.8e19 in float32, what they make of finite numbers is finite too.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from elegan.game import Game
from elegan.training.average import Average
from elegan.training.optim import Optimisers

NOT_SQUARED = ("exp_avg_sq", "square_avg", "step")  # moments by torch's names: squares themselves, and counts


class Sound:
    """The tensors of a training that are finite at first and are to stay so. A mask may hold −inf from the start."""

    def __init__(self, game: Game, average: Average, optim: Optimisers):
        self.optim, self.buffers = optim, finite_buffers(game)
        self.parameters = list(optim.names)
        self.average = {f"average of {n}": p for n, p in average.game.named_parameters()}
        self.averaged_buffers = {f"average of {n}": b for n, b in finite_buffers(average.game).items()}

    def broken(self) -> Tensor:
        """Whether some parameter, moment or buffer is not finite: 1.0 or 0.0, a flag on the device."""
        kept = self.optim.kept()
        squared = [*self.parameters, *(moment for name, moment in kept if name not in NOT_SQUARED)]
        others = [*self.buffers.values(), *(moment for name, moment in kept if name in NOT_SQUARED)]
        return not_finite([largest_square(squared), *others])

    def broken_average(self) -> Tensor:
        """The same of the average."""
        return not_finite([largest_square(self.average.values()), *self.averaged_buffers.values()])

    @torch.no_grad()
    def holds(self) -> bool:
        """Whether all of it is finite. Waits for the device."""
        return not (self.broken() or self.broken_average())

    @torch.no_grad()
    def names(self) -> Iterator[str]:
        """What is not finite, by name. Waits for the device."""
        parameters = {name: p for p, name in self.optim.names.items()}
        for name, tensor in (parameters | self.optim.tensors() | self.average).items():
            if not (tensor if name.endswith(NOT_SQUARED) else tensor.square().sum()).isfinite().all():
                yield name
        for name, tensor in (self.buffers | self.averaged_buffers).items():
            if not tensor.isfinite().all():
                yield name


def finite_buffers(game: Game) -> dict[str, Tensor]:
    """The buffers of a game that hold real numbers, all of them finite now."""
    named = {name: b for name, b in game.named_buffers() if b.is_floating_point() and b.numel()}
    return {name: b for name, b in named.items() if b.isfinite().all()}


def not_finite(tensors: Iterable[Tensor]) -> Tensor:
    """Whether some number of some tensors, or their sum, is infinite or none: 1.0 or 0.0, on their device."""
    numbers = torch.stack([t.sum() if t.ndim else t for t in tensors])
    return (numbers - numbers).sum().isnan().float()  # 0 of what is finite, and no number of all else


def largest_square(tensors: Iterable[Tensor]) -> Tensor:
    """The largest of the sums of squares of some tensors."""
    return torch.stack(torch._foreach_norm([*tensors])).max().square()
