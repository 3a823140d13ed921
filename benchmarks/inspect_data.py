"""What it costs to inspect data: seconds and memory for a folder of photographs, beside a plain loop that decodes them.

    python benchmarks/inspect_data.py [--files 10000]

The files are JPEGs of 500x375, made for this into a temporary folder and thrown away. The loop is Pillow's decoder
alone, in one process, one file after the other; the inspection decodes, measures, hashes, compares, and writes a page.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

WIDTH, HEIGHT = 500, 375


def make(folder: Path, files: int, seed: int = 0) -> None:
    """Write pictures that compress as photographs do, about 50 kB each; each hundredth is there twice."""
    rng = np.random.default_rng(seed)
    grain = rng.normal(0, 14, (HEIGHT, WIDTH, 3))
    for k in range(files):
        path = folder / f"class{k % 4}" / f"{k:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if k % 100 == 99:
            path.write_bytes((folder / f"class{(k - 1) % 4}" / f"{k - 1:06}.jpg").read_bytes())
            continue
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
        fine = Image.fromarray(rng.integers(0, 256, (38, 50, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
        pixels = 0.7 * np.asarray(coarse) + 0.3 * np.asarray(fine) + np.roll(grain, int(rng.integers(WIDTH)), 1)
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).filter(ImageFilter.SMOOTH)
        picture.save(path, quality=85)


def decoded(folder: Path) -> float:
    """Seconds of the plain loop."""
    start = time.perf_counter()
    for path in sorted(folder.rglob("*.jpg")):
        with Image.open(path) as picture:
            np.asarray(picture.convert("RGB"))
    return time.perf_counter() - start


def inspected(folder: Path, out: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of `elegan data inspect`, a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "elegan", "data", "inspect", str(folder), "--out", str(out)]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    assert code == 1, f"the planted duplicates are worth a look, not {code}"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return time.perf_counter() - start, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder, "photos")
        make(photos, asked.files)
        plain = decoded(photos)
        seconds, peak = inspected(photos, Path(folder, "inspection"))
        print(f"{asked.files:,} files of {WIDTH}x{HEIGHT} on {os.cpu_count()} cores")
        print(f"decoded in one plain loop: {plain:.1f} s")
        print(f"inspected: {seconds:.1f} s, {seconds / plain:.2f} of that, {peak:,.0f} MB at most")


if __name__ == "__main__":
    main()
