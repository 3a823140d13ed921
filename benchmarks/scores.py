"""What scores cost: 10,000 digits from the run to the table, and scoring while a game trains.

    python benchmarks/scores.py [--seconds 120] [--count 10000]

The first is `elegan evaluate RUN` as a process, start to end: once with nothing remembered (features of the reference,
floor and baseline are made), once more with all of it, as every later run of that data finds it. The second trains
`elegan train` for so many seconds with `--score 2000` and adds up the time spent on scores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import elegan
from elegan.scoring.best import Best


def evaluated(run: Path, count: int, cache: Path) -> float:
    """Seconds of one `elegan evaluate`, as a process."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "elegan", "evaluate", str(run), "-n", str(count)]
    subprocess.run(command, check=True, env={**os.environ, "XDG_CACHE_HOME": str(cache)}, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def trained(run: Path, seconds: float, score: int) -> tuple[float, float, int]:
    """Seconds of training in all, seconds of these spent on scores, and how many scores there were."""
    begun, spent, scores = 0.0, 0.0, 0
    plain = Best.score

    def timed(self, game, state):
        nonlocal spent, scores
        start = time.perf_counter()
        found = plain(self, game, state)
        spent += time.perf_counter() - start
        scores += 1
        return found

    def stop(event):
        nonlocal begun
        begun = begun or time.perf_counter()
        return {"stop": True} if time.perf_counter() - begun > seconds else None

    Best.score = timed
    try:
        elegan.train(out=run, steps=10**7, score=score, listeners=[stop])
    finally:
        Best.score = plain
    return time.perf_counter() - begun, spent, scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--score", type=int, default=2_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        total, spent, scores = trained(run, asked.seconds, asked.score)
        share = spent / total
        print(f"{scores} scores of {asked.score:,} samples in {total:.0f} s of training: {spent:.1f} s, {share:.1%}")
        for what in ("nothing remembered", "the reference remembered"):
            taken = evaluated(run, asked.count, Path(folder) / "cache")
            print(f"elegan evaluate, {asked.count:,} digits, {what}: {taken:.1f} s")


if __name__ == "__main__":
    main()
