"""Listening to what one game draws while it draws it, or changing that, without the game knowing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from elegan.game import Game


@contextmanager
def passing(game: Game, method: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, what a method of this one game returns (`noise`, `sample`) passes through `change` first."""
    plain = getattr(game, method)
    setattr(game, method, lambda *args, **named: change(plain(*args, **named)))
    try:
        yield
    finally:
        delattr(game, method)
