"""The Fréchet distance beside the textbook's by scipy's `sqrtm`: seconds and difference; FD∞ beside the truth.

From covariances of full rank (three times as many samples as dimensions), of deficient rank (a quarter), and from the
few rows themselves; from the same rows twice; and FD∞ of fresh draws from two Gaussians whose distance is known.

    OMP_NUM_THREADS=1 python benchmarks/frechet.py [--dimensions 2048] [--rounds 3] [--seeds 20]

Both sides run on the same threads. elegan's time is the best of the rounds; scipy's is of one, being slow.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
from scipy.linalg import sqrtm

from elegan.metrics.frechet import Moments, frechet_distance
from elegan.metrics.frechet_infinity import frechet_infinity

IDENTICAL = 500  # rows
SAMPLES, FEATURES = (64, 1_000), 32  # of each draw for FD∞


def textbook(a: Moments, b: Moments) -> float:
    """The formula as it stands, by scipy; what is imaginary is dropped."""
    one, two = a.covariance, b.covariance
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a matrix is singular
        root = sqrtm(one @ two)
    return float(((a.mean - b.mean) ** 2).sum() + np.trace(one) + np.trace(two) - 2 * np.trace(root).real)


Distance = Callable[[Moments, Moments], float]


def timed(distance: Distance, a: Moments, b: Moments, rounds: int = 1) -> tuple[float, float]:
    """The distance and the least seconds it took."""
    taken, value = [], 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        value = distance(a, b)
        taken.append(time.perf_counter() - start)
    return value, min(taken)


def features(rng: np.random.Generator, count: int, d: int, basis: np.ndarray) -> np.ndarray:
    """Features (count, d) whose deviations fall from 1 to e⁻⁵, as those of networks do."""
    return rng.normal(size=(count, d)) * np.exp(-5 * np.arange(d) / d) @ basis


def saved(rows: np.ndarray) -> Moments:
    """Moments that know no rows."""
    return Moments.given(len(rows), rows.mean(0), np.cov(rows.T))


def against_scipy(d: int, rounds: int) -> dict[str, tuple[float, float]]:
    """How many times as fast as scipy, and the relative difference, by case."""
    rng = np.random.default_rng(0)
    bases = [np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(2)]
    full = [saved(features(rng, 3 * d, d, basis)) for basis in bases]
    few = [features(rng, d // 4, d, basis) for basis in bases]
    found = {}
    for name, cases in {
        "full rank, from covariances": (full, full),
        "deficient rank, from covariances": ([saved(rows) for rows in few],) * 2,
        "deficient rank, from rows": ([Moments.of(rows) for rows in few], [saved(rows) for rows in few]),
    }.items():
        value, seconds = timed(frechet_distance, *cases[0], rounds)
        expected, slow = timed(textbook, *cases[1])
        found[name] = slow / seconds, abs(value / expected - 1)
        print(f"{name:34}{seconds:8.2f} s  scipy {slow:6.2f} s  {slow / seconds:6.1f} ×  apart {found[name][1]:.1e}")
    same = features(rng, IDENTICAL, d, bases[0])
    ours, theirs = frechet_distance(Moments.of(same), Moments.of(same)), textbook(saved(same), saved(same))
    print(f"the same {IDENTICAL} rows twice: {ours:.1e}, scipy {theirs:.1e}")
    return found


def extrapolated(seeds: int, samples: int) -> tuple[float, float, int]:
    """The mean FD∞ of fresh draws of both sides over the truth, that of the plain distance, intervals that hold it."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(FEATURES, FEATURES)))[0]
    one, two = np.linspace(0.3, 1.5, FEATURES), np.linspace(0.2, 2.0, FEATURES)  # deviations along the same axes
    truth = float(((one - two) ** 2).sum())
    limits, plain, held = [], [], 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(samples, FEATURES)) * one @ basis
        y = rng.normal(size=(samples, FEATURES)) * two @ basis
        estimate = frechet_infinity(x, y, seed=seed)
        low, high = estimate.interval() or (np.nan, np.nan)
        limits.append(estimate.value)
        plain.append(frechet_distance(Moments.of(x), Moments.of(y)))
        held += low <= truth <= high
    return float(np.mean(limits)) / truth, float(np.mean(plain)) / truth, held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=20)
    asked = parser.parse_args()
    against_scipy(asked.dimensions, asked.rounds)
    for samples in SAMPLES:
        limit, plain, held = extrapolated(asked.seeds, samples)
        print(f"{samples:,} samples in {FEATURES} dimensions: FD∞ {limit:.3f} of the truth, plain {plain:.3f};")
        print(f"    the 95 % interval of FD∞ holds the truth {held} times of {asked.seeds}")


if __name__ == "__main__":
    main()
