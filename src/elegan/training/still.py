"""Stopping when nothing moves any more: the relative change of the parameters over a thousand steps."""

import torch
from torch import Tensor

from elegan.training.loop import Event

WINDOW = 1_000


class Still:
    """A listener that stops a training once ‖p − p₀‖ / ‖p₀‖ over a thousand steps falls below `tolerance`.

    `before`, the parameters at the last multiple of a thousand steps, is what a checkpoint keeps of it.
    """

    name = "still"

    def __init__(self, tolerance: float):
        self.tolerance = tolerance
        self.before: dict[str, Tensor] = {}
        self.change = float("inf")

    def tensors(self) -> dict[str, Tensor]:
        return self.before

    def recall(self, tensors: dict[str, Tensor]) -> None:
        self.before = tensors

    @torch.no_grad()
    def __call__(self, event: Event) -> dict[str, bool] | None:
        if event.step % WINDOW:
            return None
        now = {name: p.detach() for name, p in event.game.named_parameters()}
        if self.before:
            self.before = {name: p.to(now[name].device) for name, p in self.before.items()}
            moved = sum(((p - self.before[n]).double().square().sum() for n, p in now.items()), torch.zeros(()))
            size = sum((self.before[n].double().square().sum() for n in now), torch.zeros(()))
            self.change = float((moved / size.clamp(min=1e-30)).sqrt())
        self.before = {name: p.clone() for name, p in now.items()}
        return {"stop": True} if self.change < self.tolerance else None
