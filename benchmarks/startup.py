"""How long `elegan --help` and `elegan zoo list` take over the start of a bare Python.

python benchmarks/startup.py [--rounds 15]
"""

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = (["--help"], ["zoo", "list"], ["train", "--help"], ["train", "dcgan", "--help"])


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    bare: list[float] = []
    taken: dict[str, list[float]] = {" ".join(command): [] for command in COMMANDS}
    for _ in range(rounds + 1):
        bare.append(seconds([sys.executable, "-c", "pass"]))
        for command in COMMANDS:
            taken[" ".join(command)].append(seconds([sys.executable, "-m", "elegan", *command]))
    base = statistics.median(bare[1:])
    print(f"bare Python          {base:6.3f} s")
    for name, times in taken.items():
        print(f"elegan {name:20} {statistics.median(times[1:]) - base:6.3f} s over bare Python")


if __name__ == "__main__":
    main()
