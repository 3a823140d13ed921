"""What augmentation costs: each kind beside torch's grid_sample, neighbours made one, and a step of a training.

    OMP_NUM_THREADS=1 python benchmarks/augment.py [--rounds 30]

Forwards and backwards through a batch of 64, at the greatest probability; the median of the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from elegan import zoo
from elegan.augment import AUGMENTATIONS, MOST, PRESETS, WARPS, rotations, warped
from elegan.data.batches import Batches
from elegan.data.sources import open_data
from elegan.training.loop import Loop

BATCH = 64
SHAPES = ((1, 28, 28), (3, 32, 32), (3, 64, 64))


def seconds(run: Callable[[], object], rounds: int) -> float:
    """The median time of a run, after a first that does not count."""
    run()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def there_and_back(augment: Callable[[Tensor], Tensor], shape: tuple[int, ...], rounds: int) -> float:
    """Seconds of one pass through an augmentation and back to a batch of images."""
    x = torch.rand(BATCH, *shape, requires_grad=True)
    return seconds(lambda: torch.autograd.grad(augment(x).sum(), x), rounds)


def kinds(shape: tuple[int, ...], rounds: int) -> dict[str, float]:
    """Seconds of each augmentation, of those that interpolate together and one by one, and of torch's grid_sample."""
    passes = {name: lambda x, draw=draw: draw(x, MOST) for name, draw in AUGMENTATIONS.items()}

    def apart(x: Tensor) -> Tensor:
        for name in WARPS:
            x = AUGMENTATIONS[name](x, MOST)
        return x

    def torchs(x: Tensor) -> Tensor:
        grid = affine_grid(rotations(x, MOST)[:, :2], list(x.shape), align_corners=False)
        return grid_sample(x, grid, padding_mode="reflection", align_corners=False)

    passes |= {"together": lambda x: warped(x, MOST, tuple(WARPS.values())), "apart": apart, "grid_sample": torchs}
    return {name: there_and_back(augment, shape, rounds) for name, augment in passes.items()}


def steps(rounds: int) -> dict[str, float]:
    """Seconds of a step of `dcgan digits` with each preset at a strength of .5, and with none, in turns."""
    data = open_data("digits")
    loops = {}
    for policy in ("", *PRESETS):
        game = zoo.build("dcgan", data.spec, **zoo.settings("dcgan", "digits", {"augment": policy}).options)
        if policy:
            game.augment.strength.fill_(0.5)
        loops[policy] = Loop(game, Batches(data, rows=BATCH))
    taken = [{policy: seconds(loop.step, 1) for policy, loop in loops.items()} for _ in range(rounds)]
    return {policy: statistics.median(found[policy] for found in taken) for policy in loops}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    for shape in SHAPES:
        found = kinds(shape, rounds)
        print(f"{'x'.join(map(str, shape))}, ms: " + ", ".join(f"{n} {1e3 * s:.2f}" for n, s in found.items()))
        print(f"  one by one {found['apart'] / found['together']:.2f} times as long as together", end="; ")
        print(f"rotate {found['rotate'] / found['grid_sample']:.2f} times as long as grid_sample")
    found = steps(rounds)
    for policy in PRESETS:
        print(f"a step of dcgan digits with {policy}: {found[policy] / found['']:.2f} times as long as without")


if __name__ == "__main__":
    main()
