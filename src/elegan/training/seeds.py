"""Randomness as a function of the place in a run: the generator is seeded anew before each shard, without history."""

import torch

from elegan.data.batches import place_seed


def seed_at(device: torch.device, *place: int | str) -> None:
    """Seed the device's default generator from a hash of a place such as (seed, stream, step, turn, move, shard)."""
    value = place_seed(*place)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(value)
    else:
        torch.default_generator.manual_seed(value)
