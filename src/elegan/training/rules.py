"""Rules by which a training is told to go wrong: functions of what a probe has read so far, and of nothing else.

A rule says in words why it holds, or nothing. Its alarm is raised once it has held for some readings in a row, and is
over once it has not for some. The thresholds were set by `benchmarks/alarms.py`; `docs/health.md` explains them.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from elegan.training.probe import EVERY, Reading

KEPT = 200  # readings that are remembered, beside the first
WINDOW = 7  # readings that most rules look back on
FAR = 0.05  # a distance that is seen in a picture: real against real is 0, untrained nets are at .2 to .8


class Series:
    """Readings, the first and the newest, and what rules ask of them. NaN where nothing was read."""

    def __init__(self, readings: Iterable[Reading] = ()):
        self.readings = list(readings)

    def add(self, reading: Reading) -> None:
        self.readings.append(reading)
        if len(self.readings) > KEPT + 1:
            del self.readings[1]

    def __len__(self) -> int:
        return len(self.readings)

    @property
    def step(self) -> int:
        return int(self.readings[-1].step)

    def column(self, name: str) -> list[float]:
        """The values of a column that are numbers, oldest first."""
        return [value for reading in self.readings if not math.isnan(value := getattr(reading, name))]

    def median(self, name: str, last: int, before: int = 0) -> float:
        """The median of the newest `last` readings of a column, but for the `before` newest."""
        values = [getattr(reading, name) for reading in self.readings[: len(self.readings) - before][-last:]]
        values = [value for value in values if not math.isnan(value)]
        return median(values) if values else math.nan

    def best(self, name: str, over: int = 5) -> tuple[float, int]:
        """The greatest median of so many readings in a row, and the step of the middle one of them."""
        values = [getattr(reading, name) for reading in self.readings]
        windows = [values[start : start + over] for start in range(max(len(values) - over + 1, 1))]
        known = [([v for v in window if not math.isnan(v)], start) for start, window in enumerate(windows)]
        value, start = max(((median(window), start) for window, start in known if window), default=(math.nan, 0))
        return value, int(self.readings[min(start + over // 2, len(self) - 1)].step)

    def nearer(self, window: int = WINDOW) -> bool:
        """Whether samples came nearer to the data: by a fifth from one window to the next."""
        if len(self) <= 2 * window:
            return True  # an untrained generator is far from everything: give it time
        return self.median("distance", window) < 0.8 * self.median("distance", window, window)


@dataclass(frozen=True)
class Rule:
    """A rule under its name: why it holds now, or nothing; after how many readings it is raised, and over."""

    name: str
    why: Callable[[Series], str]
    raised: int = 3
    over: int = 5


def collapse(s: Series) -> str:
    """Samples cover less than half of what they did cover."""
    now = s.median("coverage", 3)
    best, step = s.best("coverage") if now < 0.5 else (math.nan, 0)
    if best >= 0.4 and now < 0.5 * best:
        return f"the samples have become alike: they cover {now:.0%} of the data, {best:.0%} at step {step:,}"
    return ""


def overpowering(s: Series) -> str:
    """The judge is right about nearly every pair, and samples do not come nearer."""
    right, distance = s.median("right", WINDOW), s.median("distance", WINDOW)
    if right >= 0.97 and distance >= FAR and not s.nearer():
        return f"the judge tells {right:.0%} of all pairs apart, and the samples no longer come nearer to the data"
    return ""


def vanishing(s: Series) -> str:
    """The generator's gradient has gone while the judge is sure."""
    sure = s.median("right", 5) >= 0.9 and s.median("distance", 5) >= FAR
    now, most = s.median("grad", 5), s.best("grad", 3)[0] if sure else math.nan
    if now <= 0.01 * most:
        return f"the generator's gradient has fallen to {now:.2g}, from {most:.2g}, as the judge is sure of everything"
    return ""


def overfitting(s: Series) -> str:
    """Held-out samples look drawn to the judge."""
    said = s.column("overfit")[-3:]
    if len(said) == 3 and min(said) >= 0.4 and s.median("right", 6) >= 0.65:
        share = median(said)
        return f"the judge knows the training data by heart: real samples it has not seen are {share:.0%} drawn to it"
    return ""


def oscillation(s: Series) -> str:
    """Samples of the same noise keep moving far and come no nearer."""
    moved, distance = s.median("moved", WINDOW), s.median("distance", WINDOW)
    wild = moved >= 1 and len(s) > 2 * WINDOW  # by more than the data is wide: no way to get anywhere
    if moved >= 0.3 and distance >= FAR and (wild or not s.nearer()):
        return f"the players circle each other: every {EVERY} steps samples move by {moved:.0%} of the data's width"
    return ""


def stall(s: Series) -> str:
    """Samples are about as far from the data as at first, and no other rule says why."""
    first, now = s.readings[0].distance, s.median("distance", WINDOW)
    stalled = now >= 0.5 * first and now >= FAR and not s.nearer()
    if stalled and not (collapse(s) or overpowering(s) or vanishing(s) or oscillation(s)):
        return f"nothing comes of it: the samples are as far from the data as untrained ones, {now:.2g} of {first:.2g}"
    return ""


RULES = (
    Rule("collapse", collapse),
    Rule("overpowering", overpowering),
    Rule("vanishing", vanishing),
    Rule("overfitting", overfitting, raised=1, over=10),
    Rule("oscillation", oscillation),
    Rule("stall", stall),
)


@dataclass
class Standing:
    """Where a rule stands: for how many readings it has held, or has not, whether its alarm is on, how many times
    something was done about it, and at which step last."""

    held: int = 0
    quiet: int = 0
    on: bool = False
    times: int = 0
    last: int = 0

    def take(self, rule: Rule, holds: bool) -> bool:
        """Whether the newest reading raises the alarm, or ends it."""
        self.held, self.quiet = (self.held + 1, 0) if holds else (0, self.quiet + 1)
        turned = self.quiet >= rule.over if self.on else self.held >= rule.raised
        self.on ^= turned
        return turned
