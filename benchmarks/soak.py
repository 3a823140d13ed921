"""Whether a long training keeps its memory and its descriptors: a tiny game for 100,000 steps in a process of its own.

    python benchmarks/soak.py --steps 100000

With log, page, grids, alarms and checkpoints as they come. Every thousandth step reads the anonymous memory and the
open descriptors of the process; the slope of the memory is that of the least squares behind the first fifth.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

EVERY = 1_000  # steps between readings
WARM = 0.2  # of the steps, before which memory may still grow


def anonymous() -> float:
    """Anonymous memory of this process, in megabytes."""
    found = re.search(r"RssAnon:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "no RssAnon: it needs Linux"
    return int(found[1]) * 1024 / 1e6


def descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd")) - 1  # less that of the listing


def trained(out: Path, steps: int, every: int = EVERY) -> list[tuple[int, float, int]]:
    """Train for so many steps in this process: (step, megabytes, descriptors) at every so many."""
    import elegan

    read: list[tuple[int, float, int]] = []

    def listen(event: Any) -> None:
        if event.step % every == 0:
            read.append((event.step, anonymous(), descriptors()))

    options = dict(preset="tiny", batch=8, threads=1, precision="fp32")
    elegan.train("gan", "ring", out=out, steps=steps, listeners=[listen], **options)
    return read


def slope(read: Sequence[tuple[int, float, int]]) -> float:
    """Megabytes in 10,000 steps, by least squares over the readings behind the first fifth of the steps."""
    kept = [(step, memory) for step, memory, _ in read if step > WARM * read[-1][0]]
    steps, memory = np.array(kept, np.float64).T
    return float(np.polyfit(steps, memory, 1)[0] * 10_000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument(
        "--here", action="store_true", help="in this process, which has the readings printed line by line"
    )
    asked = parser.parse_args()
    if asked.here:
        with tempfile.TemporaryDirectory() as folder:
            for step, memory, count in trained(Path(folder) / "run", asked.steps):
                print(step, memory, count)
        return 0
    start = time.monotonic()
    command = [sys.executable, __file__, "--here", "--steps", str(asked.steps)]
    one = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=one)
    if done.returncode:
        sys.stderr.write(done.stderr)
        return 1
    read = [(int(s), float(m), int(c)) for s, m, c in map(str.split, done.stdout.splitlines())]
    first, last = read[0], read[-1]
    print(f"{asked.steps:,} steps of a tiny game in {time.monotonic() - start:.0f} s")
    print(f"anonymous memory: {first[1]:.1f} MB at step {first[0]:,}, {last[1]:.1f} MB at step {last[0]:,}")
    print(f"slope behind the first fifth: {slope(read):+.3f} MB in 10,000 steps")
    print(f"descriptors: {first[2]} at first, {last[2]} at last, {max(count for *_, count in read)} at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
