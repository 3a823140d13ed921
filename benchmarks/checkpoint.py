"""What checkpoints cost: the share of a training's time that goes into saving, at the default interval.

    python benchmarks/checkpoint.py [--seconds 150] [--games cgan r3gan] [--data digits]

Every checkpoint after the first step counts, from the moment the loop is held up to the moment it goes on.
"""

import argparse
import tempfile
import time
from pathlib import Path

import elegan
from elegan.run.events import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--games", nargs="+", default=["cgan", "r3gan"])
    parser.add_argument("--data", default="digits")
    asked = parser.parse_args()
    for game in asked.games:
        start, first, last = 0.0, 0, 0

        def stop(event):
            nonlocal start, first, last
            start, first, last = start or time.perf_counter(), first or event.step, event.step
            return {"stop": True} if time.perf_counter() - start > asked.seconds else None

        with tempfile.TemporaryDirectory() as folder:
            run = elegan.train(game, asked.data, out=Path(folder) / "run", steps=10**7, listeners=[stop]).run
            saves = [
                e["cost"] for e in read(run.events_file) if e["kind"] == "checkpoint" and first <= e["step"] < last
            ]
            size = sum(file.stat().st_size for file in max(run.checkpoints.iterdir()).iterdir())
        share = sum(saves) / asked.seconds
        print(f"{game:8} {len(saves)} checkpoints of {size / 2**20:.1f} MiB in {asked.seconds:g} s: {share:.2%}")


if __name__ == "__main__":
    main()
