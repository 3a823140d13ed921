"""An estimate and what it would have been with other samples: the interval that every score carries.

Efron, 1979, by way of the influence function (Hampel, 1974): to first order, a resample changes a value by the mean of
what each of its samples weighs. So one pass over the samples serves every resample, whatever the metric costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1_000
BLOCK = 4_000_000  # drawn rows held at a time


@dataclass(frozen=True)
class Estimate:
    """A value, and for each set it was computed from the influence of each of its samples, (N,), in fp64.

    The value of a resample is taken for `value + Σ_sets mean(influence[rows] − mean(influence))`. A set that is held
    fixed, such as a reference, is left out. Without influences there is no interval.
    """

    value: float
    influences: Sequence[np.ndarray] = ()

    def interval(self, *, level: float = 0.95, seed: int = 0) -> tuple[float, float] | None:
        """The middle `level` of the values of 1,000 resamples, (low, high); None where there is none."""
        if not self.influences or min(map(len, self.influences)) < 2 or not np.isfinite(self.value):
            return None
        rng = np.random.default_rng(seed)
        values = np.full(RESAMPLES, float(self.value))
        for influence in self.influences:
            centred = np.asarray(influence, np.float64) - np.mean(influence, dtype=np.float64)
            at_once = max(1, BLOCK // len(centred))
            for start in range(0, RESAMPLES, at_once):
                rows = rng.integers(len(centred), size=(min(at_once, RESAMPLES - start), len(centred)), dtype=np.int32)
                values[start : start + at_once] += centred[rows].mean(1)
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)
