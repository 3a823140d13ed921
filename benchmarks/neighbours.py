"""Precision, recall, density and coverage: seconds and memory beside those of the prdc package, and what they are.

    python benchmarks/neighbours.py [--rows 10000] [--dimensions 2048] [--k 5] [--cores 1] [--rounds 3] [--case shifted]

Both get the same float32 features, in turn, each in a process of its own, held to the same cores and threads. Seconds
are the processor's; memory is the rise of the process's peak over what it was when the features were there. Cases:
`gaussian`, both sets from N(0, I); `shifted`, drawn ones .9 as wide, off the mean; `collapsed`, drawn ones all equal.
With 1,000 dimensions the literature has precision .477, recall .471, density 1.056 and coverage .974, all of k = 5.
prdc rounds distances to float32 and compares by <, so where very many pairs are near a tie the last digits may differ.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import numpy as np


def features(case: str, rows: int, dimensions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Real and drawn features, float32 (rows, dimensions)."""
    rng = np.random.default_rng(seed)
    real, drawn = (rng.standard_normal((rows, dimensions), np.float32) for _ in range(2))
    if case == "shifted":
        drawn = drawn * np.float32(0.9) + np.float32(0.01)
    if case == "collapsed":
        drawn[:] = drawn[0]
    return real, drawn


def peak() -> float:
    """The peak memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def one(side: str, case: str, rows: int, dimensions: int, k: int, seed: int) -> dict:
    """Processor seconds, the rise of memory in MiB, and precision, recall, density and coverage."""
    import prdc  # both sides import both, so that memory differs by the work alone

    from elegan.metrics.precision_recall import precision_recall

    real, drawn = features(case, rows, dimensions, seed)
    before, start = peak(), time.process_time()
    if side == "prdc":
        with contextlib.redirect_stdout(io.StringIO()):
            values = list(map(float, prdc.compute_prdc(real, drawn, k).values()))
    else:
        values = [estimate.value for estimate in precision_recall(real, drawn, k=k, density_k=k)]
    return {"seconds": time.process_time() - start, "memory": peak() - before, "values": values}


def process(side: str, asked: argparse.Namespace, seed: int) -> dict:
    """`one` in a new process on `cores` cores."""
    cores = str(asked.cores)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), cores)
    command = [sys.executable, __file__, "--side", side, "--rows", str(asked.rows), "--seed", str(seed)]
    command += ["--dimensions", str(asked.dimensions), "--k", str(asked.k), "--cores", cores, "--case", asked.case]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | threads).stdout
    return json.loads(said.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=2_048)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=["gaussian", "shifted", "collapsed"], default="gaussian")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", choices=["elegan", "prdc"], help="one side alone, in this process, as JSON")
    asked = parser.parse_args()
    if asked.side:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-asked.cores :])
        print(json.dumps(one(asked.side, asked.case, asked.rows, asked.dimensions, asked.k, asked.seed)))
        return
    found: dict[str, list[dict]] = {"elegan": [], "prdc": []}
    for turn in range(asked.rounds):
        for side, results in found.items():
            results.append(process(side, asked, asked.seed + turn))
            last = results[-1]
            shown = "  ".join(f"{value:.4f}" for value in last["values"])
            print(f"{side:7} {last['seconds']:7.1f} s  {last['memory']:6.0f} MiB  {shown}", flush=True)
    ours, theirs = (statistics.median(x["seconds"] for x in found[side]) for side in found)
    print(f"medians {ours:.1f} s and {theirs:.1f} s: {theirs / ours:.2f} times as fast")


if __name__ == "__main__":
    main()
