"""Peak memory of the default training, as a whole process.

python benchmarks/memory.py [--steps 1200]
"""

import argparse
import resource
import subprocess
import sys
import tempfile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1_200)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "elegan", "train", "--steps", str(steps), "--out", f"{folder}/run"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"peak memory of {steps:,} steps of the default training: {peak / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
