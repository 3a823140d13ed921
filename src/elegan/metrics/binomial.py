"""What so many hits in so many trials say of the chance of a hit."""

from math import exp, lgamma, log, sqrt
from statistics import NormalDist


def tail(hits: int, trials: int, chance: float = 0.5) -> float:
    """The probability of at least so many hits if each trial hits with `chance`: the one-sided exact p-value.

    Raises ValueError unless 0 ≤ hits ≤ trials and 0 < chance < 1.
    """
    _checked(hits, trials)
    if not hits:
        return 1.0
    if not 0 < chance < 1:
        raise ValueError(f"a chance lies between 0 and 1, not {chance}")
    yes, no, ways = log(chance), log(1 - chance), lgamma(trials + 1)
    terms = (
        ways - lgamma(k + 1) - lgamma(trials - k + 1) + k * yes + (trials - k) * no for k in range(hits, trials + 1)
    )
    return min(1.0, sum(exp(term) for term in terms))


# Wilson, 1927, "Probable inference, the law of succession, and statistical inference"
def wilson(hits: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """The chances, (low, high), that a score test at `level` does not rule out.

    Raises ValueError unless 0 ≤ hits ≤ trials, of 1 trial or more.
    """
    _checked(hits, trials)
    if not trials:
        raise ValueError("no trials tell nothing")
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (hits + z * z / 2) / (trials + z * z)
    half = z / (trials + z * z) * sqrt(hits * (trials - hits) / trials + z * z / 4)
    return (middle - half if hits else 0.0), (middle + half if hits < trials else 1.0)


def _checked(hits: int, trials: int) -> None:
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits of {trials} trials cannot be")
