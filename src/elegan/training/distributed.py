"""Ranks under `torchrun`: one all-reduce a move, no wrapper around the players.

What is summed: [gradients, zeros where None | which exist | terms | flags | buffers of shard 0, as exact numbers].
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from elegan.errors import OptionError


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int = 0
    size: int = 1

    def shards(self, count: int) -> range:
        """The shards of this rank: rank, rank + size, … Raises `OptionError` if they cannot be dealt out evenly."""
        if count % self.size:
            raise OptionError(f"{count} shards cannot be dealt to {self.size} processes; use --shards {self.size}.")
        return range(self.rank, count, self.size)

    def sum_(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks, in one all-reduce."""
        if self.size == 1:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        start = 0
        for t in tensors:
            t.copy_(flat[start : start + t.numel()].view(t.shape))
            start += t.numel()

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, in rank order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


def world() -> World:
    """The world as it is now: one process, unless `joined` is open."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


@contextmanager
def joined(device: str = "cpu") -> Iterator[World]:
    """Join the peers `torchrun` started, if it did; leave together by a barrier, so that no job aborts at exit."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield world()
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield world()
        dist.barrier()
    finally:
        dist.destroy_process_group()


def as_numbers(tensor: Tensor) -> Tensor:
    """A tensor as float32 numbers from which `from_numbers` restores it to the bit, summed with zeros or not."""
    if tensor.dtype == torch.float32:
        return tensor.reshape(-1)
    return tensor.contiguous().reshape(-1).view(torch.uint8).float()


def from_numbers(numbers: Tensor, like: Tensor) -> Tensor:
    """The inverse of `as_numbers`."""
    if like.dtype == torch.float32:
        return numbers.view(like.shape)
    return numbers.to(torch.uint8).view(like.dtype).view(like.shape)
