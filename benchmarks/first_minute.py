"""The first minute: the Fréchet distance of the default run's digits and of the MLP tutorial's, after equal time.

Each side trains for so many seconds in a process of its own, the tutorial's loop as it is taught and `elegan train` as
it is, with its average, log, grids, page and checkpoints; then each draws 10,000 digits. They are compared with the
10,000 digits of the test set in the features of `digits-cnn`. What real training digits score stands beside them.

    python benchmarks/first_minute.py [--seconds 60] [--seeds 0 1 2] [--out DIRECTORY]

Starting up, reading the data and drawing do not count. `--out` keeps a grid of each side.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tutorial import tutorial

import elegan
from elegan.data.sources import open_data
from elegan.embedders import digits_cnn
from elegan.metrics.frechet import Moments, frechet_distance
from elegan.view.sheet import sheet

DRAWN, BATCH = 10_000, 64
SIDES = ("tutorial", "elegan")


def taught(seconds: float, seed: int) -> tuple[int, np.ndarray]:
    """Images read by the tutorial's loop, and digits its generator draws."""
    torch.manual_seed(seed)
    steps = tutorial(BATCH)
    next(steps)
    start = time.perf_counter()
    images, generator = next(step for step in steps if time.perf_counter() - start > seconds)
    with torch.no_grad():
        drawn = generator(torch.randn(DRAWN, 100)).view(-1, 1, 28, 28)
    return images, drawn.mul(127.5).add(127.5).round().clamp(0, 255).byte().numpy()


def default(seconds: float, seed: int) -> tuple[int, np.ndarray]:
    """Images read by `elegan train`, and digits its averaged generator draws."""
    start, read = 0.0, 0

    def stop(event):
        nonlocal start, read
        start, read = start or time.perf_counter(), event.images
        return {"stop": True} if time.perf_counter() - start > seconds else None

    with tempfile.TemporaryDirectory() as folder:
        model = elegan.train(out=Path(folder) / "run", seed=seed, steps=10**7, listeners=[stop])
        return read, model.sample(DRAWN, seed=1).values


def distance(images: np.ndarray, real: Moments) -> float:
    return frechet_distance(Moments.of(digits_cnn.load().embed(images)[0]), real)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", choices=SIDES, help="one side in this process, with the first seed")
    asked = parser.parse_args()
    test = open_data("digits", split="test").arrays["real"]
    real = Moments.of(digits_cnn.load().embed(test)[0])
    if asked.side:
        images, drawn = (taught if asked.side == "tutorial" else default)(asked.seconds, asked.seeds[0])
        if asked.out:
            asked.out.mkdir(parents=True, exist_ok=True)
            sheet(drawn[:160], columns=20).save(asked.out / f"{asked.side}-{asked.seeds[0]}.png")
        print(json.dumps([images, distance(drawn, real)]))
        return
    floor = distance(open_data("digits").arrays["real"][:DRAWN], real)
    print(f"FD[{digits_cnn.NAME}] to the test set after {asked.seconds:g} s; 10,000 real training digits: {floor:.2f}")
    scores: dict[str, list[float]] = {side: [] for side in SIDES}
    for seed in asked.seeds:
        for side in SIDES:
            command = [sys.executable, __file__, "--side", side, "--seconds", str(asked.seconds), "--seeds", str(seed)]
            command += ["--out", str(asked.out)] if asked.out else []
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            images, score = json.loads(said.splitlines()[-1])
            scores[side].append(score)
            print(f"seed {seed}  {side:8}  {images:8,} images  {score:8.2f}", flush=True)
    middle = {side: statistics.median(found) for side, found in scores.items()}
    ratio = middle["tutorial"] / middle["elegan"]
    print(f"medians: tutorial {middle['tutorial']:.2f}, elegan {middle['elegan']:.2f}: 1/{ratio:.1f}")


if __name__ == "__main__":
    main()
