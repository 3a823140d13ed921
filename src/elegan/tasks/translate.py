"""Translating samples of one field into another."""

import torch
from torch import Tensor

from elegan.errors import OptionError
from elegan.game import Game


@torch.no_grad()
def translate(game: Game, x: Tensor, *, direction: str = "ab", rows: int = 8) -> Tensor:
    """Translate encoded images, (n, C, H, W), a few rows at a time. Raises `OptionError` if the game cannot."""
    if "translation" not in game.tasks:
        raise OptionError(f"{game.name} does not translate; it is for {', '.join(game.tasks)}.")
    if direction not in ("ab", "ba"):
        raise OptionError(f"--direction {direction!r} is not one of ab, ba.")
    return torch.cat([game.translate(part.to(game.device), direction=direction) for part in x.split(rows)])
