"""Ranks under `torchrun`, or whoever sets the variables that it does: one all-reduce a move, no wrapper.

What is summed: [gradients, zeros where None | which exist | terms | flags | buffers of shard 0, as exact numbers].
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from elegan.errors import OptionError
from elegan.training import meeting
from elegan.training.meeting import launched, reaching, together


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int = 0
    size: int = 1

    def shards(self, count: int) -> range:
        """The shards of this rank: rank, rank + size, … Raises `OptionError` if they cannot be dealt out evenly."""
        if count % self.size:
            fit = [str(size) for size in range(1, count + 1) if count % size == 0]
            raise OptionError(
                f"{count} shards cannot be dealt to {self.size} processes; start {' or '.join(fit)} of them, "
                f"or train a new run with --shards {self.size}."
            )
        return range(self.rank, count, self.size)

    def sum_(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks, in one all-reduce. Raises `Gone` if one has ended."""
        if self.size == 1:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        with reaching():
            dist.all_reduce(flat)
        start = 0
        for t in tensors:
            t.copy_(flat[start : start + t.numel()].view(t.shape))
            start += t.numel()

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, in rank order. Raises `Gone` if one has ended."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with reaching():
            dist.all_gather_object(values, value)
        return values


def world() -> World:
    """The world as it is now: one process, unless `joined` is open."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


@contextmanager
def joined(device: str = "cpu") -> Iterator[World]:
    """Join the peers that were launched, if any; leave together by a barrier, so that no job aborts at exit.

    Raises `Gone` if one does not come, or ends before the others; see `together` for what becomes of errors.
    """
    rank, size = launched()
    if size == 1 or dist.is_initialized():
        yield world()
        return
    with together():
        if device.startswith("cuda"):
            torch.cuda.set_device(device)
        here, backend = meeting.current(), "nccl" if device.startswith("cuda") else "gloo"
        soon, late = timedelta(seconds=meeting.SOON), timedelta(seconds=meeting.TIMEOUT)
        with reaching():
            here.call_the_roll()
            dist.init_process_group(backend, store=here.group_store(), rank=rank, world_size=size, timeout=soon)
            distributed_c10d._set_pg_timeout(late)  # there is no public way to give it patience once it stands
        try:
            yield world()
            with reaching():
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
