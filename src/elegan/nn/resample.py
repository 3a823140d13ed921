"""Antialiased bilinear resampling between any two sizes, as two small matrix products.

By a factor of two its taps are [1, 3, 3, 1] along each axis. As plain products it differentiates twice, runs in any
precision, and exports to any runtime.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Resample(nn.Module):
    """(B, C, *size) -> (B, C, *target)"""

    rows: Tensor
    columns: Tensor

    def __init__(self, size: tuple[int, int], target: tuple[int, int]):
        super().__init__()
        self.register_buffer("rows", _weights(size[0], target[0]), persistent=False)  # (H', H)
        self.register_buffer("columns", _weights(size[1], target[1]).T.contiguous(), persistent=False)  # (W, W')

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(self.rows, torch.matmul(x, self.columns))


def _weights(before: int, after: int) -> Tensor:  # -> (after, before)
    unit = torch.eye(before).view(1, before, 1, before)
    return F.interpolate(unit, size=(1, after), mode="bilinear", antialias=after < before)[0, :, 0].T.contiguous()
