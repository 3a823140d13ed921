"""Trials for the recipe of `elegan train`: what each choice is worth after one minute on the bundled digits.

    python recipes/default.py [--seconds 60] [--seeds 0 1 2] [--only NAME ...] [--list]

Every trial changes one thing of the recipe that stands, trains for so many seconds in a process of its own, and draws
10,000 digits, whose Fréchet distance to the 10,000 digits of the test set is taken in the features of `digits-cnn`.
Results are kept in `runs/default-trials.jsonl`; a trial that stands there is not run again. What they showed is told in
`docs/LOG.md`. Run it on an idle machine: what is compared is what a minute buys.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from elegan import zoo

KEPT = Path("runs/default-trials.jsonl")
DRAWN = 10_000
Trial = dict[str, Any]  # game, batch, half_life_images, and the game's own options

TRIALS: dict[str, Trial] = {
    "as it stands": {},
    "momentum .5": dict(beta1=0.5),
    "rate 3e-3": dict(lr=3e-3),
    "rate 1e-3": dict(lr=1e-3),
    "batch 32": dict(batch=32),
    "batch 128, rate 3e-3": dict(batch=128, lr=3e-3),
    "width 24": dict(width=24),
    "width 48": dict(width=48),
    "penalty .1": dict(gamma=0.1),
    "penalty 1": dict(gamma=1.0),
    "penalty on an eighth": dict(penalised=0.125),
    "penalty on half": dict(penalised=0.5),
    "half-life 40,000": dict(half_life_images=40_000),
    "half-life 10,000": dict(half_life_images=10_000),
    "non-saturating": dict(loss="non-saturating"),
    "hinge": dict(loss="hinge"),
    "label as channels": dict(condition="channels"),
    "not told the class": dict(game="dcgan"),
}


def run(trial: Trial, seconds: float, seed: int) -> dict[str, float]:
    """Images read and the distance reached."""
    import elegan
    from elegan.data.sources import open_data
    from elegan.embedders import digits_cnn
    from elegan.metrics.frechet import Moments, frechet_distance

    start, read = 0.0, 0

    def stop(event):
        nonlocal start, read
        start, read = start or time.perf_counter(), event.images
        return {"stop": True} if time.perf_counter() - start > seconds else None

    game = {"game": "cgan", **trial}
    with tempfile.TemporaryDirectory() as folder:
        model = elegan.train(data="digits", out=Path(folder) / "run", seed=seed, steps=10**7, listeners=[stop], **game)
        drawn = model.sample(DRAWN, seed=1).values
    net = digits_cnn.load()
    real = Moments.of(net.embed(open_data("digits", split="test").arrays["real"])[0])
    return {"images": read, "distance": frechet_distance(Moments.of(net.embed(drawn)[0]), real)}


def key_of(trial: Trial) -> dict[str, Any]:
    """What a trial is once the recipe that stands has filled it in."""
    asked = dict(trial)
    game = asked.pop("game", "cgan")
    own = {name: value for name, value in asked.items() if name not in ("batch", "half_life_images")}
    settings = zoo.settings(game, None, own, "digits", "image")
    training = {**settings.training, **{name: value for name, value in asked.items() if name not in own}}
    return {"game": game, "options": settings.options, "training": training}


def results() -> list[dict[str, Any]]:
    return [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=TRIALS, metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print what is known and stop")
    parser.add_argument("--one", action="store_true", help="the first of each, in this process")
    asked = parser.parse_args()
    names = asked.only or list(TRIALS)
    if asked.one:
        print(json.dumps(run(TRIALS[names[0]], asked.seconds, asked.seeds[0])))
        return
    for seed in () if asked.list else asked.seeds:
        for name in names:
            key = {**key_of(TRIALS[name]), "seconds": asked.seconds, "seed": seed}
            if any(key.items() <= found.items() for found in results()):
                continue
            command = [sys.executable, __file__, "--one", "--only", name, "--seeds", str(seed)]
            command += ["--seconds", str(asked.seconds)]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            KEPT.parent.mkdir(exist_ok=True)
            with KEPT.open("a") as file:
                file.write(json.dumps({**key, **json.loads(said)}) + "\n")
            print(f"seed {seed}  {name:32} {said}", flush=True)
    print(f"{'trial':32} {'images':>9} {'distance':>9}  seeds")
    for name in names:
        wanted = {**key_of(TRIALS[name]), "seconds": asked.seconds}
        mine = [r for r in results() if wanted.items() <= r.items()]
        if mine:
            images, distance = (statistics.median(r[key] for r in mine) for key in ("images", "distance"))
            each = ", ".join(f"{r['distance']:.1f}" for r in mine)
            print(f"{name:32} {images:9,.0f} {distance:9.2f}  {each}")


if __name__ == "__main__":
    main()
