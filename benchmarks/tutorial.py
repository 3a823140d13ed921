"""The MLP tutorial's loop, as it is taught, against the same game in elegan: real images per second.

Both train the same networks by the same losses and optimiser on the bundled digits: a generator 100-256-512-1024-784
and a judge 784-512-256-1 with LeakyReLU, binary cross entropy, Adam 2e-4. The tutorial's side reads through a
DataLoader, makes a PIL image of each sample and transforms it, in float32, one batch of 64. elegan's side runs the loop
that `elegan train` runs, moving average and health checks on, with threads and precision as its probe chooses.

    python benchmarks/tutorial.py [--rounds 3] [--seconds 10]

Each round runs each side in a process of its own, in turn; the median of the rounds counts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.sources import open_data
from elegan.training import precision
from elegan.training.loop import train

SIDES = {"tutorial, batch 64": 64, "elegan, batch 64": 64, "elegan, batch 256": 256}
WARM_UP = 50  # steps that do not count


class Digits(Dataset):
    """One sample at a time: array -> PIL image -> tensor in [0, 1] -> normalised to [-1, 1]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> tuple[torch.Tensor, int]:
        picture = Image.fromarray(self.images[k])
        pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True))[None]
        scaled = pixels.contiguous().to(torch.float32).div(255)
        mean, std = torch.tensor([0.5])[:, None, None], torch.tensor([0.5])[:, None, None]
        return scaled.clone().sub_(mean).div_(std), int(self.labels[k])


def tutorial(batch: int) -> Iterator[tuple[int, nn.Module]]:
    """The loop as it is taught: after each step, how many images it has read, and the generator."""
    source = open_data("digits")
    loader = DataLoader(Digits(source.arrays["real"][:, 0], source.arrays["label"]), batch_size=batch, shuffle=True)
    generator = nn.Sequential(
        nn.Linear(100, 256), nn.LeakyReLU(0.2), nn.Linear(256, 512), nn.LeakyReLU(0.2),
        nn.Linear(512, 1024), nn.LeakyReLU(0.2), nn.Linear(1024, 784), nn.Tanh(),
    )  # fmt: skip
    judge = nn.Sequential(
        nn.Linear(784, 512), nn.LeakyReLU(0.2), nn.Linear(512, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1), nn.Sigmoid()
    )
    criterion = nn.BCELoss()
    optimiser_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimiser_d = torch.optim.Adam(judge.parameters(), lr=2e-4, betas=(0.5, 0.999))
    images = 0
    while True:
        for real, _ in loader:
            n = len(real)
            ones, zeros = torch.ones(n, 1), torch.zeros(n, 1)
            fake = generator(torch.randn(n, 100))
            optimiser_d.zero_grad()
            real_loss = criterion(judge(real.view(n, -1)), ones)
            fake_loss = criterion(judge(fake.detach()), zeros)
            d_loss = (real_loss + fake_loss) / 2
            d_loss.backward()
            optimiser_d.step()
            optimiser_g.zero_grad()
            g_loss = criterion(judge(fake), ones)
            g_loss.backward()
            optimiser_g.step()
            images += n
            yield images, generator


def ours(batch: int) -> Iterator[tuple[int, nn.Module]]:
    """The same game in elegan: after each step, how many images it has read, and the generator."""
    source = open_data("digits")
    choice = precision.choose()
    choice.apply()
    game = zoo.build("gan", source.spec, **zoo.settings("gan", "mlp", {}).options)
    precision.place(game, choice)
    for event in train(game, Batches(source, rows=batch), steps=10**9):
        yield event.images, game.G


def rate(steps: Iterator[tuple[int, nn.Module]], seconds: float) -> float:
    """Images a second after the warm-up."""
    before = next(images for k, (images, _) in enumerate(steps, 1) if k == WARM_UP)
    start = time.perf_counter()
    for images, _ in steps:
        if (passed := time.perf_counter() - start) > seconds:
            return (images - before) / passed
    raise AssertionError("unreachable")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--side", choices=SIDES, help="run one side in this process and print its rate")
    asked = parser.parse_args()
    if asked.side:
        side = tutorial if asked.side.startswith("tutorial") else ours
        print(json.dumps(rate(side(SIDES[asked.side]), asked.seconds)))
        return
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(asked.rounds):
        for side in SIDES:
            command = [sys.executable, __file__, "--side", side, "--seconds", str(asked.seconds)]
            rates[side].append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    base = statistics.median(rates["tutorial, batch 64"])
    for side, found in rates.items():
        middle = statistics.median(found)
        spread = f"{min(found):,.0f} to {max(found):,.0f}"
        print(f"{side:20} {middle:8,.0f} images/s ({spread})  {middle / base:5.2f} x the tutorial")


if __name__ == "__main__":
    main()
