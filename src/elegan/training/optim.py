"""Optimisers whose moments belong to the parameters, and whose step a flag on the device can turn into nothing."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from elegan.game import SGD, Adam, Game, Optim, RMSprop, player

Moments = defaultdict[Tensor, dict[str, Any]]  # by parameter

BUILDERS: dict[type[Optim], Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    Adam: partial(torch.optim.AdamW, fused=True),
    RMSprop: torch.optim.RMSprop,
    SGD: partial(torch.optim.SGD, fused=True),
}


class Optimisers:
    """The moments of all parameters of a game and the fused steps that use them."""

    def __init__(self, game: Game):
        self.game = game
        self.names: dict[Tensor, str] = {p: name for name, p in game.named_parameters()}
        self.moments: dict[type[Optim], Moments] = {kind: defaultdict(dict) for kind in BUILDERS}
        self._built: dict[tuple[type[Optim], str], torch.optim.Optimizer] = {}
        self._movers: dict[str, list[Tensor]] = {}

    def movers(self, players: str) -> list[Tensor]:
        """The parameters of some players, each once, in the game's order."""
        if players not in self._movers:
            found = {id(p) for name in players.split() for p in player(self.game, name).parameters()}
            self._movers[players] = [p for p in self.names if id(p) in found]
        return self._movers[players]

    def step(self, players: str, record: Optim, skip: Tensor) -> None:
        """One update of some players from the gradients they hold; where `skip` is 1, nothing changes."""
        optimiser = self._optimiser(players, record)
        if isinstance(record, RMSprop):
            self._step_unfused(optimiser, players, skip)
        else:
            vars(optimiser).update(grad_scale=None, found_inf=skip)  # fused steps read both by name
            optimiser.step()

    def _optimiser(self, players: str, record: Optim) -> torch.optim.Optimizer:
        key = (type(record), players)
        if key not in self._built:
            optimiser = BUILDERS[type(record)](self.movers(players))
            optimiser.state = self.moments[type(record)]
            self._built[key] = optimiser
        group = self._built[key].param_groups[0]
        group["lr"] = record.lr
        if isinstance(record, Adam):
            group.update(betas=record.betas, eps=record.eps, weight_decay=record.decay)
        elif isinstance(record, RMSprop):
            group.update(alpha=record.alpha, eps=record.eps)
        elif isinstance(record, SGD):
            group.update(momentum=record.momentum)
            if record.momentum:  # a masked first step would leave a buffer of torch's own making unwritten
                for p in self.movers(players):
                    self.moments[SGD][p].setdefault("momentum_buffer", torch.zeros_like(p))
        return self._built[key]

    def _step_unfused(self, optimiser: torch.optim.Optimizer, players: str, skip: Tensor) -> None:
        """RMSprop has no fused form that knows `found_inf`: keep what was, and choose on the device."""
        moving = [p for p in self.movers(players) if p.grad is not None]
        moments = self.moments[RMSprop]
        for p in moving:
            if not moments[p]:
                moments[p] = {"step": torch.zeros(()), "square_avg": torch.zeros_like(p)}
        tensors = [t for p in moving for t in (p.data, *moments[p].values())]
        before = [t.clone() for t in tensors]
        optimiser.step()
        for now, was in zip(tensors, before, strict=True):
            torch.where(skip.to(now.device) > 0, was, now, out=now)

    def kept(self) -> Iterator[tuple[str, Tensor]]:
        """All moments that are where their parameter is, each with its name among them."""
        for moments in self.moments.values():
            for p, named in moments.items():
                yield from ((n, m) for n, m in named.items() if isinstance(m, Tensor) and m.device == p.device)

    def forget(self) -> None:
        """Drop all moments, as at the start of a phase that asks for it."""
        for moments in self.moments.values():
            moments.clear()

    def tensors(self) -> dict[str, Tensor]:
        """All moments by `kind/parameter/name`."""
        return {
            f"{kind.__name__}/{self.names[p]}/{name}": value
            for kind, moments in self.moments.items()
            for p, kept in moments.items()
            for name, value in kept.items()
            if isinstance(value, Tensor)
        }

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take moments from `tensors()` of another time, in the parameters' strides: a fused step pairs by storage."""
        self.forget()
        kinds = {kind.__name__: kind for kind in BUILDERS}
        by_name = {name: p for p, name in self.names.items()}
        for key, value in tensors.items():
            kind, parameter, name = key.split("/")
            p = by_name[parameter]
            where = p.device if kinds[kind] is Adam else torch.device("cpu")
            kept = torch.zeros((), device=where) if name == "step" else torch.zeros_like(p)
            self.moments[kinds[kind]][p][name] = kept.copy_(value)
