"""Optimisers whose moments belong to the parameters, and whose step a flag on the device can turn into nothing."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.optim.rmsprop import rmsprop

from elegan.game import SGD, Adam, Game, Optim, RMSprop, player

Moments = defaultdict[Tensor, dict[str, Any]]  # by parameter
KINDS: tuple[type[Optim], ...] = (Adam, RMSprop, SGD)


class Optimisers:
    """The moments of all parameters of a game and the fused steps that use them."""

    def __init__(self, game: Game):
        self.game = game
        self.names: dict[Tensor, str] = {p: name for name, p in game.named_parameters()}
        self.moments: dict[type[Optim], Moments] = {kind: defaultdict(dict) for kind in KINDS}
        self._movers: dict[str, list[Tensor]] = {}
        self._kept: list[tuple[str, Tensor]] | None = None

    def movers(self, players: str) -> list[Tensor]:
        """The parameters of some players, each once, in the game's order."""
        if players not in self._movers:
            found = {id(p) for name in players.split() for p in player(self.game, name).parameters()}
            self._movers[players] = [p for p in self.names if id(p) in found]
        return self._movers[players]

    def step(self, players: str, record: Optim, skip: Tensor) -> None:
        """One update of some players from the gradients they hold; where `skip` is 1, nothing changes."""
        moving = [p for p in self.movers(players) if p.grad is not None]
        gradients = [p.grad for p in moving if p.grad is not None]
        if isinstance(record, Adam):
            self._adam(moving, gradients, record, skip)
        elif isinstance(record, SGD):
            self._sgd(moving, gradients, record, skip)
        elif isinstance(record, RMSprop):
            self._rmsprop(moving, gradients, record, skip)
        else:
            raise TypeError(f"no optimiser makes the steps of {record!r}")

    def _adam(self, moving: list[Tensor], gradients: list[Tensor], record: Adam, skip: Tensor) -> None:
        steps, first, second = self._of(Adam, moving, "step", "exp_avg", "exp_avg_sq")
        torch._foreach_add_(steps, [1 - skip] * len(steps))
        torch._fused_adamw_(
            moving, gradients, first, second, [], steps, lr=record.lr, beta1=record.betas[0], beta2=record.betas[1],
            weight_decay=record.decay, eps=record.eps, amsgrad=False, maximize=False, found_inf=skip,
        )  # fmt: skip

    def _sgd(self, moving: list[Tensor], gradients: list[Tensor], record: SGD, skip: Tensor) -> None:
        buffers = self._of(SGD, moving, "momentum_buffer")[0] if record.momentum else []
        torch._fused_sgd_(
            moving, gradients, buffers, lr=record.lr, momentum=record.momentum, weight_decay=0.0, dampening=0.0,
            nesterov=False, maximize=False, is_first_step=False, found_inf=skip,
        )  # fmt: skip

    def _rmsprop(self, moving: list[Tensor], gradients: list[Tensor], record: RMSprop, skip: Tensor) -> None:
        """RMSprop has no fused form that knows `found_inf`: keep what was, and choose on the device."""
        steps, squares = self._of(RMSprop, moving, "step", "square_avg")
        tensors = [*moving, *steps, *squares]
        before = [t.clone() for t in tensors]
        rmsprop(
            moving, gradients, squares, [], [], steps, lr=record.lr, alpha=record.alpha, eps=record.eps,
            weight_decay=0.0, momentum=0.0, centered=False,
        )  # fmt: skip
        for now, was in zip(tensors, before, strict=True):
            torch.where(skip.to(now.device) > 0, was, now, out=now)

    def _of(self, kind: type[Optim], moving: list[Tensor], *names: str) -> list[list[Tensor]]:
        """The moments of some parameters, a list for each name; zero at first."""
        moments = self.moments[kind]
        for p in moving:
            if names[0] not in moments[p]:
                moments[p] = {name: zeros(p, kind, name) for name in names}
                self._kept = None
        return [[moments[p][name] for p in moving] for name in names]

    def kept(self) -> list[tuple[str, Tensor]]:
        """All moments that are where their parameter is, each with its name among them."""
        if self._kept is None:
            found = [(p, named) for moments in self.moments.values() for p, named in moments.items()]
            self._kept = [(n, m) for p, named in found for n, m in named.items() if m.device == p.device]
        return self._kept

    def forget(self) -> None:
        """Drop all moments, as at the start of a phase that asks for it."""
        for moments in self.moments.values():
            moments.clear()
        self._kept = None

    def tensors(self) -> dict[str, Tensor]:
        """All moments by `kind/parameter/name`."""
        return {
            f"{kind.__name__}/{self.names[p]}/{name}": value
            for kind, moments in self.moments.items()
            for p, kept in moments.items()
            for name, value in kept.items()
        }

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take moments from `tensors()` of another time, in the parameters' strides: a fused step pairs by storage."""
        self.forget()
        kinds = {kind.__name__: kind for kind in KINDS}
        by_name = {name: p for p, name in self.names.items()}
        for key, value in tensors.items():
            kind, parameter, name = key.split("/")
            p = by_name[parameter]
            self.moments[kinds[kind]][p][name] = zeros(p, kinds[kind], name).copy_(value)


def zeros(parameter: Tensor, kind: type[Optim], name: str) -> Tensor:
    """A moment at first. The count of a fused optimiser lives where the parameter does, others on the processor."""
    if name == "step":
        return torch.zeros((), device=parameter.device if kind is Adam else "cpu")
    return torch.zeros_like(parameter)
