"""Fully connected stacks on flattened samples."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn


def hidden(sizes: Sequence[int], *, norm: bool = False, dropout: float = 0.0, slope: float = 0.2) -> nn.Sequential:
    """Linear layers between the given sizes, each followed by [BatchNorm,] LeakyReLU [, dropout]."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers.append(nn.Linear(before, after, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm1d(after))
        layers.append(nn.LeakyReLU(slope))
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


class MLPGenerator(nn.Sequential):
    """z -> hidden layers -> a sample of `shape`; `bounded` ends in tanh, as images in [-1, 1] want it."""

    def __init__(
        self, z_dim: int, widths: Sequence[int], shape: Sequence[int], *, norm: bool = False, bounded: bool = True
    ):
        last = nn.Linear(widths[-1] if widths else z_dim, prod(shape))
        end = [nn.Tanh()] if bounded else []
        super().__init__(hidden([z_dim, *widths], norm=norm), last, *end, nn.Unflatten(1, tuple(shape)))


class MLPJudge(nn.Module):
    """A sample of `shape` -> hidden layers -> one logit.  (B, *shape) -> (B,)"""

    def __init__(self, shape: Sequence[int], widths: Sequence[int], *, dropout: float = 0.0):
        super().__init__()
        self.body = hidden([prod(shape), *widths], dropout=dropout)
        self.head = nn.Linear(widths[-1] if widths else prod(shape), 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.flatten(1))).squeeze(1)
