"""Training on a store ten times the memory it may have: whether memory stays flat, and what a step costs.

    python benchmarks/mapped.py [--limit 1024] [--steps 500] [--side 64]

The store is one hole in the disk, which reads as zeros and takes no room; its checksums are compared first, as of any
store. A process that may have `limit` MiB of data (RLIMIT_DATA) then trains on it, rows from all over the file.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from elegan.data import store
from elegan.data.source import BLOCK, image_field
from elegan.data.sources import open_data
from elegan.spec import Spec

CHILD = """
import resource, sys, time
from pathlib import Path
limit, steps = int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
import elegan
noted = {}
def note(event):
    if event.step in (10, steps):
        said = Path("/proc/self/smaps_rollup").read_text()
        noted[event.step] = int(said.split("Anonymous:")[1].split()[0]) * 1024, time.perf_counter()
elegan.train("dcgan", sys.argv[1], out=sys.argv[4], preset="tiny", steps=steps, batch=16, precision="fp32", threads=1,
             listeners=[note])
(early, start), (late, end) = noted[10], noted[steps]
print(early, late, (end - start) / (steps - 10))
"""


def sparse(path: Path, rows: int, shape: tuple[int, int, int]) -> Path:
    """A store of so many black images of a shape (C, H, W)."""
    part = store.Part(path.with_name("part"))
    part.home.mkdir(parents=True)
    file = part.home / "train-real.npy"
    np.lib.format.open_memmap(file, "w+", np.uint8, (rows, *shape)).flush()
    full, rest = divmod(rows * int(np.prod(shape)), BLOCK)
    blocks = [hashlib.sha256(bytes(BLOCK)).hexdigest()] * full + [hashlib.sha256(bytes(rest)).hexdigest()] * (rest > 0)
    about = {"file": file.name, "dtype": "|u1", "shape": [rows, *shape], "blocks": blocks}
    spec = Spec(real=image_field(np.zeros((1, *shape), np.uint8)))
    held = {"about": "black images", "spec": spec.to_json(), "fields": {"real": about}, "left_out": []}
    store.publish(part, path, {"name": "black", "form": {}, "splits": {"train": held}})
    return path


def trained(path: Path, limit: int, steps: int, out: Path) -> tuple[int, int, float]:
    """Bytes of anonymous memory after step 10 and after the last, and seconds a step, of a process with so many bytes
    of data."""
    command = [sys.executable, "-c", CHILD, str(path), str(limit), str(steps), str(out)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return int(said[-3]), int(said[-2]), float(said[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--limit", type=int, default=1_024, help="MiB of data that the process may have")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--side", type=int, default=64)
    asked = parser.parse_args()
    limit = asked.limit << 20
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ELEGAN_CACHE"] = f"{folder}/cache"
        path = sparse(Path(folder) / "store", 10 * limit // (3 * asked.side**2), (3, asked.side, asked.side))
        start = time.perf_counter()
        source = open_data(path)
        print(f"{source.arrays['real'].nbytes / 2**30:.1f} GiB, {len(source):,} rows, checked in ", end="")
        print(f"{time.perf_counter() - start:.1f} s, then opened in ", end="")
        start = time.perf_counter()
        open_data(path)
        print(f"{time.perf_counter() - start:.3f} s")
        early, late, seconds = trained(path, limit, asked.steps, Path(folder) / "run")
        print(
            f"anonymous memory after step 10: {early / 2**20:.1f} MiB, after step {asked.steps}: {late / 2**20:.1f} MiB"
        )
        print(f"{seconds * 1e3:.1f} ms a step")


if __name__ == "__main__":
    main()
