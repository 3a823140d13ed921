"""Eight modes on a ring, twenty-five on a grid: how many are found, and how exactly, in a few minutes.

Each game, `GAME` or `GAME/PRESET`, is trained as `elegan train` trains it, once a seed, in a process of its own; then
2,500 points are drawn. A point is of high quality within three deviations of a mode; real points score 98.9 %.

    python benchmarks/modes.py [--games r3gan gan/stable] [--data ring grid] [--seeds 0 1 2] [--minutes 3]

Minutes are those of training on this machine, drawing excluded; a run that would take longer is stopped.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import elegan
from elegan.metrics.modes import coverage

DRAWN = 2_500


def one(game: str, data: str, seed: int, minutes: float) -> tuple[int, int, float, float]:
    """Modes, of how many, the share of high quality, and the seconds of training."""
    start, taken = 0.0, 0.0

    def stop(event):
        nonlocal start, taken
        start = start or time.perf_counter()
        taken = time.perf_counter() - start
        return {"stop": True} if taken > 60 * minutes else None

    with tempfile.TemporaryDirectory() as folder:
        name, _, preset = game.partition("/")
        model = elegan.train(name, data, out=Path(folder) / "run", seed=seed, preset=preset or None, listeners=[stop])
        about = model.game.spec["real"].about
        return *coverage(model.sample(DRAWN).values, about["modes"], about["sigma"]), taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--games", nargs="+", default=["r3gan", "gan/stable"])
    parser.add_argument("--data", nargs="+", choices=["ring", "grid"], default=["ring", "grid"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--one", action="store_true", help="the first of each, in this process")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.games[0], asked.data[0], asked.seeds[0], asked.minutes)))
        return
    for data in asked.data:
        for game in asked.games:
            for seed in asked.seeds:
                command = [sys.executable, __file__, "--one", "--games", game, "--data", data, "--seeds", str(seed)]
                command += ["--minutes", str(asked.minutes)]
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                modes, total, share, seconds = json.loads(said.splitlines()[-1])
                print(
                    f"{data:5} {game:10} seed {seed}  {modes}/{total} modes  {share:6.1%}  {seconds:5.0f} s", flush=True
                )


if __name__ == "__main__":
    main()
